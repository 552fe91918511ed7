"""Redials by a clock that is turned by hand: how often, how long, and when not."""

import pytest
import trio

from gateway.errors import LegClosed, LegRefused
from gateway.redial import PAUSE_S, REDIALS_PER_CALL_MAX, Redialer
from gateway.settings import MediaSettings
from tests.peers import Peer, Table


class Line:
    """A bridge in mid-call and a redialer whose dialling is a list of what happens, one for each try."""

    def __init__(self, *tries, settings=None):
        self.tries = list(tries)
        self.table = Table(settings=settings)
        self.table.now_s = trio.current_time()
        self.notes = []
        self.redialer = Redialer(
            self.table.settings,
            self.table.bridge,
            self.dial,
            lambda name, data: self.notes.append((name, data, trio.current_time())),
            self.command,
        )
        self.table.connect_agent()
        self.table.start()

    def command(self, step):
        self.table.now_s = trio.current_time()
        step(self.table.now_s)
        self.settle()

    def settle(self):
        self.table.settle()
        seen, self.table.events = self.table.events, []
        for event in seen:
            match type(event).__name__:
                case "AgentLost":
                    self.redialer.on_lost(event)
                case "AgentReady":
                    self.redialer.on_ready()
                case "Note":
                    self.notes.append((event.name, event.data, event.at_s))

    async def dial(self):
        outcome = self.tries.pop(0)
        if outcome == "hangs":
            await trio.sleep_forever()
        if isinstance(outcome, Exception):
            raise outcome
        delay_s, what = outcome
        await trio.sleep(delay_s)
        self.table.agent = Peer(is_client=False)
        self.table.now_s = trio.current_time()
        if what == "ready":
            self.table.connect_agent()
        else:
            self.table.bridge.agent_opened(self.table.now_s)
            self.settle()
            if what == "dies":
                self.table.lose_agent()
        self.settle()

    def lose(self):
        self.table.now_s = trio.current_time()
        self.table.lose_agent()
        self.settle()

    def times(self, name):
        return [at for note, _, at in self.notes if note == name]


@pytest.fixture
async def lines(autojump_clock):
    async with trio.open_nursery() as nursery:

        def make(*tries, **options):
            line = Line(*tries, **options)
            nursery.start_soon(line.redialer.run)
            return line

        yield make
        nursery.cancel_scope.cancel()


REFUSED = LegRefused("agent", "WebSocket upgrade was refused", code=503)
WRONG_KEY = LegRefused("agent", "signed URL was refused", code=401)
UNREACHABLE = LegClosed("agent", "TCP connect: refused")


@pytest.mark.parametrize(
    ("tries", "dialled", "back_s"),
    [
        ([(0.4, "ready")], 1, 0.4),
        ([REFUSED, (0.4, "ready")], 2, PAUSE_S + 0.4),
        (["hangs", (0.4, "ready")], 2, 1.5 + PAUSE_S + 0.4),
        ([(0.2, "mute"), (0.4, "ready")], 2, 1.5 + PAUSE_S + 0.4),
        ([(0.2, "dies"), (0.4, "ready")], 2, 0.2 + PAUSE_S + 0.4),
        ([UNREACHABLE, UNREACHABLE], 2, None),
        (["hangs", "hangs"], 2, None),
        ([(0.2, "mute"), (0.2, "mute")], 2, None),
        ([WRONG_KEY], 1, None),
        ([REFUSED, (2.8, "ready")], 2, None),
    ],
)
async def test_redials_of_a_lost_leg_stay_within_their_time(
    autojump_clock, lines, tries, dialled, back_s
):
    """Back when a try succeeds; given up after two, after three seconds, or at a refusal that will be repeated."""
    line = lines(*tries)
    lost_s = trio.current_time()
    line.lose()
    await trio.sleep(5.0)
    assert line.redialer.count == dialled
    assert len(line.times("agent_redial")) == dialled
    if back_s is None:
        ended = line.table.bridge.ended
        assert ended.result == "agent_fault"
        assert not ended.hang_up
        assert line.times("agent_back") == []
    else:
        assert line.table.bridge.ended is None
        assert line.times("agent_back") == [pytest.approx(lost_s + back_s)]
    assert max(line.times("agent_redial")) < lost_s + 3.0


async def test_given_up_no_later_than_three_seconds_after_the_loss(autojump_clock, lines):
    """Then Twilio has to be asked; the caller has waited long enough."""
    line = lines("hangs", "hangs")
    line.lose()
    await trio.sleep(2.99)
    assert line.table.bridge.ended is None
    await trio.sleep(0.02)
    assert line.table.bridge.ended is not None


async def test_agent_that_goes_again_and_again_is_given_up(autojump_clock, lines):
    """Each gap has its own two tries, the call a bound for all of them."""
    line = lines(*[(0.1, "ready")] * 50)
    for _ in range(REDIALS_PER_CALL_MAX):
        line.lose()
        await trio.sleep(1.0)
        assert line.table.bridge.ended is None
    line.lose()
    await trio.sleep(1.0)
    assert line.table.bridge.ended.result == "agent_fault"
    assert line.redialer.count == REDIALS_PER_CALL_MAX


async def test_call_that_ends_during_the_gap_is_not_dialled_for_any_more(autojump_clock, lines):
    """The caller hangs up while the first try is refused."""
    line = lines(REFUSED, (0.1, "ready"))
    line.lose()
    await trio.sleep(PAUSE_S / 2)
    line.table.stop()
    await trio.sleep(3.0)
    assert line.redialer.count == 1
    assert line.table.bridge.ended.result == "completed"


async def test_one_redial_has_all_the_time(autojump_clock, lines):
    """`media.agent_redials = 1`."""
    line = lines((2.5, "ready"), settings=MediaSettings(agent_redials=1))
    line.lose()
    await trio.sleep(4.0)
    assert line.table.bridge.agent_gaps_ms == [pytest.approx(2500)]
