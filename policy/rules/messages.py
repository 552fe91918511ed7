"""SMS-*: what only text messages have to keep; consent, lists, hours and caps bind them like calls."""

from __future__ import annotations

from datetime import timedelta

from policy.rules.base import SMS, Answer, Ask, Define
from policy.rules.base import Number as Whole

_REGISTERED = frozenset({"a2p_10dlc", "toll_free_verified", "short_code"})


def _sender(ask: Ask) -> Answer:
    sms = ask.facts.sms
    if sms is None or sms.sender is None:
        return ask.say.missing("sms.sender")
    if sms.sender in _REGISTERED or ask.law.destination(ask.facts).region not in ("US", "CA"):
        return ask.say.allow("registered", sender=sms.sender)
    return ask.say.deny("unregistered", sender=sms.sender)


def _stop(ask: Ask) -> Answer:
    sms = ask.facts.sms
    if sms is None or sms.stopped is None:
        return ask.say.missing("sms.stopped")
    return ask.say.deny("stopped") if sms.stopped else ask.say.allow("not_stopped")


def _text(ask: Ask) -> Answer:
    sms = ask.facts.sms
    if sms is None or sms.is_first is None:
        return ask.say.missing("sms.is_first")
    lacking = [
        name
        for name, there in (
            ("sender_name", sms.names_sender),
            ("opt_out_text", sms.has_opt_out_text),
        )
        if not there
    ]
    if sms.is_first and lacking:
        return ask.say.deny("first_message_lacks", lacking=lacking)
    return ask.say.allow("text_complete", first=sms.is_first)


def _reply(ask: Ask) -> Answer:
    """One confirmation of a stop, within minutes (47 CFR 64.1200(a)(12)); HELP is answered always."""
    sms = ask.facts.sms
    if sms is None or sms.is_reply != "stop_confirmation":
        return ask.say.allow("no_stop_confirmation")
    if sms.in_reply_to_at is None:
        return ask.say.missing("sms.in_reply_to_at")
    waited = ask.facts.at - sms.in_reply_to_at
    inputs = {"waited_s": int(waited.total_seconds())}
    if waited > timedelta(seconds=ask.set["within_s"]):
        return ask.say.deny("too_late", **inputs)
    return ask.say.allow("in_time", **inputs)


RULES = (
    Define("SMS-SENDER", 1, _sender, channels=SMS, replies=True),
    Define("SMS-STOP", 1, _stop, channels=SMS),
    Define("SMS-TEXT", 1, _text, channels=SMS),
    Define("SMS-REPLY", 1, _reply, {"within_s": Whole(300, 1, 300)}, channels=SMS, replies=True),
)
