"""Text messages: templates, conditions, keywords, and sending once whatever is lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bench.sim_twilio import TwilioSim
from control.clock import Clock
from control.config import Secret, TwilioSettings
from control.outbox import OutboxItem, TryAgain
from control.sms import template
from control.sms.incoming import Incoming
from control.sms.keywords import HELP, START, STOP, keyword
from control.sms.service import Allowance, Sms
from control.sms.settings import SmsProblem, parse, recipient, unmet
from control.store import Store, agents, calls, consents, messages, opt_outs
from control.store.records import AgentRecord, CallRecord, OptOutRecord
from control.twilio.rest import TwilioRest
from control.urls import PublicUrls

ACCOUNT = "AC00000000000000000000000000000a01"
TOKEN = "t" * 32
OURS, THEM = "+14155550199", "+14155550100"
TENANT = "tnt_default"
SMS = {"template": "Thank you {name}"}


# ---- pure ----------------------------------------------------------------------------------------


def test_template_is_filled_in() -> None:
    """Values on one line; doubled braces are braces; nothing else is understood."""
    text = "Hi {name}, {{a b}} at {time}: {ok}, {n}"
    template.check(text, {"name", "time", "ok", "n"})
    values = {"name": " Ada\n L. ", "time": "9", "ok": True, "n": 4.0}
    assert template.render(text, values) == "Hi Ada L., {a b} at 9: yes, 4"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("{nme}", "unknown field 'nme'"),
        ("{name.__class__}", "plain name"),
        ("{name!r}", "plain name"),
        ("{name:>99999}", "plain name"),
        ("{0}", "plain name"),
        ("{}", "plain name"),
        ("{name", "single {"),
        ("name}", "single }"),
        ("Hi {{name}}", "write {name}"),
        ("Hi {{ nope }}", "would be sent with its braces"),
        ("x" * 1601, "longer than"),
    ],
)
def test_template_that_cannot_be_used_is_refused(text: str, words: str) -> None:
    """When the agent is saved, not when the message is due."""
    with pytest.raises(template.TemplateProblem, match=words):
        template.check(text, {"name"})


@given(st.text(max_size=60), st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text()))
def test_template_that_was_checked_is_rendered_whatever_the_values(
    text: str, values: dict[str, str]
) -> None:
    """Nothing in a value is read as a template."""
    try:
        template.check(text, values)
    except template.TemplateProblem:
        return
    body = template.render(text, values)
    assert template.segments(body) >= 1


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 67, 3),
    ],
)
def test_segments_are_those_of_the_standard(body: str, count: int) -> None:
    """GSM 7 bit: 160 and 153; UCS-2: 70 and 67; no character is cut in half."""
    assert template.segments(body) == count


def test_message_after_an_answering_machine_may_be_asked_for() -> None:
    """Every result that a call's record can have is a condition."""
    settings = parse({"template": "Sorry we missed you.", "when": {"result": ["machine"]}}, ())
    assert unmet(settings, result="machine", direction="outbound", values={}) is None
    assert unmet(settings, result="completed", direction="outbound", values={}) is not None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], "sms"),
        ({"template": 1}, "sms.template"),
        ({"template": "{x}"}, "sms.template"),
        ({"template": "a", "foo": 1}, "sms.foo"),
        ({"template": "a", "when": {"foo": 1}}, "sms.when.foo"),
        ({"template": "a", "when": {"result": ["won"]}}, "sms.when.result"),
        ({"template": "a", "when": {"extracted": ["x"]}}, "sms.when.extracted"),
        ({"template": "a", "when": {"equals": {"x": 1}}}, "sms.when.equals"),
        ({"template": "a", "when": {"direction": "up"}}, "sms.when.direction"),
        ({"template": "a", "to": "5550100"}, "sms.to"),
        ({"template": "a", "to": "{x}"}, "sms.to"),
        ({"template": "a", "sender": "x"}, "sms.sender"),
        ({"template": "a", "enabled": "yes"}, "sms.enabled"),
    ],
)
def test_settings_that_are_wrong_name_the_field(given: Any, field: str) -> None:
    """Each with the place where it is wrong."""
    with pytest.raises(SmsProblem) as caught:
        parse(given, {"name"})
    assert caught.value.field == field


def test_message_is_due_when_everything_holds() -> None:
    """And the reason says what does not."""
    settings = parse(
        {"template": "{name}", "when": {"extracted": ["time"], "equals": {"ok": True}}},
        {"name", "time", "ok"},
    )
    good = {"name": "Ada", "time": "9", "ok": True}

    def why(result: str = "completed", **values: Any) -> str | None:
        return unmet(settings, result=result, direction="inbound", values=good | values)

    assert why() is None
    assert why(result="no_answer") == "the call's result is no_answer"
    assert why(time=None) == "time was not found in the call"
    assert why(ok=False) == "ok is not yes"
    assert why(name=None) == "name has no value"


def test_recipient_is_the_customer_or_a_field() -> None:
    """A field that holds no number writes to nobody."""
    field = parse({"template": "a", "to": "{n}"}, {"n"})
    assert recipient(parse({"template": "a"}), THEM, {}) == THEM
    assert recipient(parse({"template": "a"}), "anonymous", {}) is None
    assert recipient(field, THEM, {"n": "+1 (415) 555-0101"}) == "+14155550101"
    assert recipient(field, THEM, {"n": "the usual one"}) is None


def test_keywords_in_any_case_and_with_marks() -> None:
    """The whole message is the word; a sentence with it is none."""
    for words, kind in ((STOP, "stop"), (START, "start"), (HELP, "help")):
        for word in words:
            assert keyword(f"  {word.lower()}! ") == kind
    assert keyword("please stop") is None
    assert keyword("arrêt", "STOP") == "stop"
    assert keyword("stop", "START") == "stop"


# ---- sending -------------------------------------------------------------------------------------


class Account:
    def __init__(self, rest: TwilioRest) -> None:
        self.rest = rest

    async def of(self, tenant_id: str) -> TwilioRest:
        return self.rest


class Desk:
    """The service between the store and a simulated Twilio."""

    def __init__(self, store: Store, sim: TwilioSim, settle_s: float = 0.05) -> None:
        settings = TwilioSettings(
            account_sid=ACCOUNT, auth_token=Secret(TOKEN), api_base_url=sim.base_url
        )
        self.rest = TwilioRest(settings, read_timeout_s=2.0)
        self.allowance = Allowance(True, {"allowed": True, "outcome": "allow", "rules": []})
        self.store, self.sim = store, sim
        urls = PublicUrls("http://127.0.0.1:1", "ws://127.0.0.1:1")
        self.sms = Sms(store, Clock(), Account(self.rest), urls, self.ask, settle_s=settle_s)

    async def ask(self, message: messages.MessageRecord) -> Allowance:
        return self.allowance

    async def call(self, **extracted: Any) -> OutboxItem:
        now = Clock().now()
        agent = AgentRecord("agt_1", "Desk", now, now, number_e164=OURS, sms=SMS, status="live")
        record = CallRecord(
            "call_1",
            "inbound",
            now,
            agent_id="agt_1",
            from_number=THEM,
            to_number=OURS,
            status="completed",
            result="completed",
            ended_at=now,
            extractions=extracted,
        )
        await self.store.write(agents.insert, agent)
        await self.store.write(calls.insert, record)
        return OutboxItem("obx_1", TENANT, "sms", "call_1", now, now, now)

    async def message(self) -> messages.MessageRecord:
        found = await self.store.read(messages.by_intent, "call:call_1")
        assert found is not None
        return found

    async def lines(self) -> list[str]:
        return [line.name for line in await self.store.read(calls.events, "call_1")]


@pytest.fixture
async def desk(store: Store, nursery: trio.Nursery) -> Desk:
    sim = TwilioSim(ACCOUNT, TOKEN, [OURS])
    await nursery.start(sim.run)
    return Desk(store, sim)


async def test_message_is_sent_once_however_often_it_is_asked_for(desk: Desk) -> None:
    """The row knows; a repeated item finds it."""
    item = await desk.call(name="Ada")
    for _ in range(3):
        assert await desk.sms.send(item) is None
    (sent,) = desk.sim.post.sent_to(THEM)
    message = await desk.message()
    assert (sent.body, message.send_state, message.twilio_sid) == (
        "Thank you Ada",
        "created",
        sent.sid,
    )
    assert await desk.lines() == ["sms_sent"]


async def test_message_without_its_field_is_not_due(desk: Desk) -> None:
    """And the timeline says why."""
    assert await desk.sms.send(await desk.call(name=None)) is None
    assert desk.sim.post.messages == {}
    assert await desk.lines() == ["sms_not_due"]


@pytest.mark.parametrize("acted", [True, False])
async def test_lost_answer_is_looked_up_and_never_sent_twice(desk: Desk, acted: bool) -> None:
    """Twilio has it: found. Twilio has not, long after: sent anew, one time."""
    item = await desk.call(name="Ada")
    desk.sim.lose_answer("POST", "/Messages", acted=acted)
    with pytest.raises(TryAgain):
        await desk.sms.send(item)
    assert (await desk.message()).send_state == "uncertain"
    for _ in range(8):
        try:
            await desk.sms.send(item)
            break
        except TryAgain:
            await trio.sleep(0.02)
    (sent,) = desk.sim.post.sent_to(THEM)
    message = await desk.message()
    assert (message.send_state, message.twilio_sid) == ("created", sent.sid)


async def test_message_that_was_lost_twice_is_given_up(desk: Desk) -> None:
    """Better none than a third try."""
    item = await desk.call(name="Ada")
    desk.sim.lose_answer("POST", "/Messages", times=9, acted=False)
    for _ in range(30):
        try:
            await desk.sms.send(item)
            break
        except TryAgain:
            await trio.sleep(0.02)
    message = await desk.message()
    assert (message.status, message.error) == ("failed", "its answer was lost twice")
    posts = [one for one in desk.sim.rest.requests if one[0] == "POST"]
    assert len(posts) == 2


async def test_recipient_who_opted_out_at_twilio_is_put_on_the_list(desk: Desk) -> None:
    """21610 is recorded with the message, in the timeline, and as an opt-out."""
    desk.sim.post.opted_out.add((THEM, OURS))
    await desk.sms.send(await desk.call(name="Ada"))
    message = await desk.message()
    assert (message.send_state, message.status, message.error_code) == ("refused", "failed", 21610)
    entry = await desk.store.read(opt_outs.get, TENANT, THEM)
    assert entry is not None
    assert (entry.source, entry.call_id) == ("sms", "call_1")
    assert await desk.lines() == ["sms_failed"]


async def test_policy_that_forbids_it_sends_nothing(desk: Desk) -> None:
    """Blocked for good, or asked again at the moment that it names."""
    item = await desk.call(name="Ada")
    later = Clock().now() + timedelta(hours=8)
    desk.allowance = Allowance(False, {"allowed": False}, "QUIET: night", later)
    assert await desk.sms.send(item) == later
    desk.allowance = Allowance(False, {"allowed": False}, "DNC-INT: listed")
    assert await desk.sms.send(item) is None
    assert desk.sim.post.messages == {}
    message = await desk.message()
    assert (message.status, message.error) == ("blocked", "DNC-INT: listed")
    assert await desk.lines() == ["sms_waits", "sms_blocked"]


async def test_status_callbacks_in_any_order_and_before_the_answer(desk: Desk) -> None:
    """A callback may be quicker than our own answer; an older one changes nothing."""
    await desk.sms.send(await desk.call(name="Ada"))
    message = await desk.message()
    incoming = Incoming(desk.store, Clock())

    def form(status: str, **more: str) -> dict[str, str]:
        return {"MessageSid": message.twilio_sid or "", "MessageStatus": status, **more}

    assert await incoming.status(form("undelivered", ErrorCode="30007"), message.id)
    assert await incoming.status(form("sent"), message.id)
    assert not await incoming.status({"MessageSid": "SMx", "MessageStatus": "sent"}, message.id)
    now = await desk.message()
    assert (now.status, now.error_code) == ("undelivered", 30007)
    assert await desk.lines() == ["sms_sent", "sms_undelivered"]


async def test_callback_that_is_quicker_than_the_answer_binds_the_message(desk: Desk) -> None:
    """It names our id; the answer, or the look-up, finds it done, and the timeline has one line."""
    item = await desk.call(name="Ada")
    desk.sim.lose_answer("POST", "/Messages")
    with pytest.raises(TryAgain):
        await desk.sms.send(item)
    (sent,) = desk.sim.post.sent_to(THEM)
    incoming = Incoming(desk.store, Clock())
    form = {"MessageSid": sent.sid, "MessageStatus": "queued"}
    assert await incoming.status(form, (await desk.message()).id)
    assert await desk.sms.send(item) is None
    message = await desk.message()
    assert (message.send_state, message.twilio_sid, message.error) == ("created", sent.sid, None)
    assert await desk.lines() == ["sms_sent"]


async def test_stop_that_came_before_is_not_undone_by_an_old_start(store: Store) -> None:
    """A START that Twilio repeats after a later STOP must not take the number off the list."""
    incoming = Incoming(store, Clock())

    async def write(sid: str, body: str) -> None:
        form = {"MessageSid": sid, "From": THEM, "To": OURS, "Body": body}
        await incoming.receive(form)

    async def scope() -> str | None:
        entry = await store.read(opt_outs.get, TENANT, THEM)
        assert entry is not None
        return entry.scope

    await write("SM1", "START")
    await write("SM2", "STOP")
    await write("SM1", "START")
    assert await scope() is None
    await write("SM3", "START")
    assert await scope() == "voice"
    await write("SM2", "STOP")
    assert await scope() is None


async def _after(store: Store, *told: str) -> OptOutRecord | None:
    """The entry after messages, and after `spoken:` words in a call."""
    incoming = Incoming(store, Clock())
    for number, words in enumerate(told):
        if words.startswith("spoken:"):
            spoken = OptOutRecord(THEM, "spoken", Clock().now(), TENANT, call_id="call_1")
            await store.write(opt_outs.add, spoken)
        else:
            sid = f"SM{number}"
            form = {"MessageSid": sid, "From": THEM, "To": OURS, "Body": words}
            await incoming.receive(form)
    return await store.read(opt_outs.get, TENANT, THEM)


@pytest.mark.parametrize(
    ("told", "source", "scope"),
    [
        (("STOP", "spoken: stop calling me", "YES"), "spoken", None),
        (("spoken: stop calling me", "STOP", "START"), "spoken", None),
        (("STOP", "YES", "spoken: stop calling me", "YES"), "spoken", None),
        (("STOP", "UNSTOP"), "sms", "voice"),
        (("STOP", "START", "STOP"), "sms", None),
        (("STOP", "START", "Please stop texting me."), "sms", None),
        (("Please stop texting me", "START"), "sms", "voice"),
        (("wrong number", "START"), "wrong_number", None),
        (("STOP", "wrong number", "START"), "wrong_number", None),
    ],
)
async def test_start_lifts_messages_and_no_request_that_was_made_otherwise(
    store: Store, told: tuple[str, ...], source: str, scope: str | None
) -> None:
    """A text takes back what texts asked for, for messages; calls need a new consent."""
    entry = await _after(store, *told)
    assert entry is not None
    assert (entry.source, entry.scope) == (source, scope)


@pytest.mark.parametrize(
    ("words", "source"),
    [
        ("please stop texting me", "sms"),
        ("Don\u2019t call or text this number again.", "sms"),
        ("Take me off your list!!", "sms"),
        ("STOP ALL MESSAGES", "sms"),
        ("I revoke my consent", "sms"),
        ("yes, stop calling me", "sms"),
        ("lose my number \U0001f621", "sms"),
        ("ya no me llamen mas", "sms"),
        ("arr\u00eatez de m'appeler", "sms"),
        ("Rufen Sie mich nicht mehr an", "sms"),
        ("You have the wrong number", "wrong_number"),
        ("not interested", "sms_review"),
        ("is this spam?", "sms_review"),
        ("I can stop by at ten", None),
        ("Please don't cancel my appointment", None),
        ("See you at the bus stop", None),
        ("Yes please", None),
        ("What time do you open?", None),
    ],
)
async def test_free_text_that_means_stop_is_a_stop(
    store: Store, words: str, source: str | None
) -> None:
    """Any reasonable means will do; what is only probably a request suppresses, and says so."""
    entry = await _after(store, words)
    assert (entry and entry.source) == source
    if entry is not None and source == "sms_review":
        assert "looked at" in (entry.reason or "")
    if source == "wrong_number":
        answer = await store.read(consents.newest_answer, TENANT, THEM)
        assert answer is not None
        assert answer.answer == "yes"
