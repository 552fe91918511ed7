"""Carrying out TwiML on a call: fetch a document, run its verbs, follow where they lead.

`Carrier` is what verbs need of the world. A hang-up or a REST update cuts every verb short.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import trio

from bench.sim_twilio import dialling, parameters, twiml
from bench.sim_twilio.call import DocumentSource, SimCall
from bench.sim_twilio.callee import Caller
from bench.sim_twilio.connecting import StreamOptions
from bench.sim_twilio.stream import MediaStream
from bench.sim_twilio.stream_record import StreamHooks
from bench.sim_twilio.twiml import Document, Element, TwimlError
from bench.sim_twilio.webhooks import Params, Reply, Webhooks

DOCUMENTS_MAX = 100
"""A call that was sent through more documents runs in a circle."""
APPLICATION_ERROR = "We are sorry, an application error has occurred. Goodbye."
_FETCH_ERRORS = {"ct": 11205, "rt": 11205, "4xx": 11200, "5xx": 11200, "other": 11200}


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """What a call needs of the world around it."""

    webhooks: Webhooks
    auth_token: Callable[[str], str]
    """Of an account, by its SID."""
    destinations: MutableMapping[str, Caller]
    stream_options: Callable[[], StreamOptions]
    now: Callable[[], datetime]
    say_s_per_char: float
    rooms: dict[str, dialling.Room] = field(default_factory=dict)
    """Conferences of the account by name."""


async def run_documents(carrier: Carrier, call: SimCall, document: Document | None) -> None:
    """Run TwiML until a document ends without a successor, or the call is hung up."""
    for _ in range(DOCUMENTS_MAX):
        if document is not None:
            document = await _run(carrier, call, document)
        if call.hung_up_by is not None:
            return
        if call.next_source is not None:
            source, call.next_source = call.next_source, None
            document = await fetch(carrier, call, source)
        elif document is None:
            return
    call.warn(11200, "error", f"more than {DOCUMENTS_MAX} documents in one call")


async def fetch(
    carrier: Carrier, call: SimCall, source: DocumentSource, extra: Params = ()
) -> Document | None:
    """The document of `source`, from its fallback URL when the first fails.

    `None`: nothing usable; the caller heard the application error, as on a real call.
    """
    failure: TwimlError
    try:
        if source.twiml is not None:
            return _checked(call, twiml.parse(source.twiml))
        return await _request(carrier, call, source.url, source.method, extra)
    except TwimlError as error:
        failure = error
    if call.is_disturbed:
        return None
    if source.fallback_url:
        more = [*extra, ("ErrorCode", str(failure.code)), ("ErrorUrl", source.url)]
        call.note("fallback", code=failure.code)
        try:
            return await _request(carrier, call, source.fallback_url, source.fallback_method, more)
        except TwimlError:
            pass
    call.heard_texts.append(APPLICATION_ERROR)
    call.note("application-error")
    return None


async def _request(
    carrier: Carrier, call: SimCall, url: str, method: str, extra: Params
) -> Document:
    params = [*parameters.voice(call), *extra]
    reply = Reply("other")
    with call.interruptible():
        reply = await carrier.webhooks.request(url, method, params, call_sid=call.sid)
    if reply.outcome != "2xx":
        code = _FETCH_ERRORS[reply.outcome]
        if not call.is_disturbed:
            call.warn(code, "error", f"fetching TwiML failed: {reply.outcome} {reply.status}")
        raise TwimlError(code, f"fetching TwiML failed: {reply.outcome}")
    try:
        return _checked(
            call, twiml.parse(reply.body, url=reply.url, content_type=reply.content_type)
        )
    except TwimlError as error:
        call.warn(error.code, "error", error.message)
        raise


def _checked(call: SimCall, document: Document) -> Document:
    for text in document.warnings:
        call.warn(12200, "warning", f"Schema validation warning: {text}")
    return document


async def _run(carrier: Carrier, call: SimCall, document: Document) -> Document | None:
    for position, verb in enumerate(document.verbs):
        if call.is_disturbed:
            return None
        if verb.name == "Reject" and position:
            call.warn(12200, "warning", "Reject is not the first verb")
        call.verbs.append(verb)
        call.note("verb", verb=verb.name)
        step = await _VERBS[verb.name](carrier, call, document, verb)
        if step is not None:
            # The verb leads elsewhere (or, without a target, nowhere): what follows is unreachable.
            return await step() if not call.is_disturbed else None
    return None


Step: TypeAlias = Callable[[], Awaitable[Document | None]]


async def _nowhere() -> Document | None:
    return None


def _go_to(
    carrier: Carrier,
    call: SimCall,
    document: Document,
    url: str,
    method: str | None,
    extra: Params = (),
) -> Step:
    source = DocumentSource(url=document.resolve(url), method=(method or "POST").upper())
    return lambda: fetch(carrier, call, source, extra)


def _number(verb: Element, name: str, default: float) -> float:
    text = verb.attributes.get(name, "")
    return float(text) if text.isdecimal() else default


async def _say(carrier: Carrier, call: SimCall, document: Document, verb: Element) -> Step | None:
    call.heard_texts.append(verb.text)
    times = max(1.0, _number(verb, "loop", 1.0))
    with call.interruptible():
        await trio.sleep(len(verb.text) * carrier.say_s_per_char * times)
    return None


async def _pause(carrier: Carrier, call: SimCall, document: Document, verb: Element) -> Step | None:
    with call.interruptible():
        await trio.sleep(_number(verb, "length", 1.0))
    return None


async def _ignore(
    carrier: Carrier, call: SimCall, document: Document, verb: Element
) -> Step | None:
    return None


async def _hang_up(
    carrier: Carrier, call: SimCall, document: Document, verb: Element
) -> Step | None:
    return _nowhere


async def _redirect(
    carrier: Carrier, call: SimCall, document: Document, verb: Element
) -> Step | None:
    return _go_to(carrier, call, document, verb.text, verb.attributes.get("method"))


async def _connect(
    carrier: Carrier, call: SimCall, document: Document, verb: Element
) -> Step | None:
    noun = verb.child("Stream")
    if noun is None:
        call.warn(12200, "warning", "Connect without a Stream")
    elif noun.attributes.get("track", "inbound_track") != "inbound_track":
        call.warn(31941, "error", "Invalid Track configuration")
    else:
        await _stream(carrier, call, document, noun)
    action = verb.attributes.get("action")
    if not action:
        return None
    return _go_to(carrier, call, document, action, verb.attributes.get("method"))


async def _stream(carrier: Carrier, call: SimCall, document: Document, noun: Element) -> None:
    given = noun.attributes
    callback_url = document.resolve(given["statusCallback"]) if "statusCallback" in given else ""
    callback_method = given.get("statusCallbackMethod", "POST").upper()

    def event(name: str, error: str) -> None:
        call.note(name, stream_sid=stream.sid, error=error)
        params = parameters.stream_callback(
            call, stream.sid, given.get("name", ""), name, error, carrier.now()
        )
        call.callbacks.put(callback_url, callback_method, params)

    first_s = call.first_stream_s
    stream = MediaStream(
        url=_stream_url(document, given.get("url", "")),
        auth_token=carrier.auth_token(call.account_sid),
        account_sid=call.account_sid,
        call_sid=call.sid,
        behaviour=call.behaviour,
        hooks=StreamHooks(warn=call.warn, event=event, hang_up=call.hang_up),
        parameters={
            child.attributes.get("name", ""): child.attributes.get("value", "")
            for child in noun.children
            if child.name == "Parameter"
        },
        options=carrier.stream_options(),
        speech_offset_s=0.0 if first_s is None else trio.current_time() - first_s,
    )
    call.streams.append(stream)
    with call.interruptible(stream.stop):
        await stream.run()


def _stream_url(document: Document, url: str) -> str:
    resolved = document.resolve(url)
    scheme, colon, rest = resolved.partition(":")
    return {"http": "ws", "https": "wss"}.get(scheme, scheme) + colon + rest


async def _dial(carrier: Carrier, call: SimCall, document: Document, verb: Element) -> Step | None:
    extra = await dialling.dial(carrier, call, document, verb)
    action = verb.attributes.get("action")
    if not action:
        return None
    return _go_to(carrier, call, document, action, verb.attributes.get("method"), extra)


async def _record(
    carrier: Carrier, call: SimCall, document: Document, verb: Element
) -> Step | None:
    extra = await dialling.record(carrier, call, document, verb)
    # Without an action Twilio asks the document's own URL again.
    action = verb.attributes.get("action", document.url)
    return _go_to(carrier, call, document, action, verb.attributes.get("method"), extra)


_VERBS: dict[str, Callable[[Carrier, SimCall, Document, Element], Awaitable[Step | None]]] = {
    "Connect": _connect,
    "Dial": _dial,
    "Gather": _ignore,
    "Hangup": _hang_up,
    "Pause": _pause,
    "Play": _ignore,
    "Record": _record,
    "Redirect": _redirect,
    "Reject": _hang_up,
    "Say": _say,
    "Start": _ignore,
    "Stop": _ignore,
}
