"""The TwiML documents that this gateway answers with. Pure.

A call is `<Connect><Stream>` with no `action`, then an apology and a `<Redirect>`: while the gateway
lives, a call is ended by REST before the stream closes; if the gateway dies, Twilio runs the verbs it
already holds and asks `/twilio/continue`.

Source: Twilio docs, "TwiML Voice: <Connect>, <Stream>, <Say>, <Redirect>, <Reject>, <Hangup>".
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

CONTENT_TYPE = "text/xml; charset=utf-8"
SAY_MAX_CHARS = 4096
MESSAGE_MAX_CHARS = 1600

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


def connect_stream(
    *, stream_url: str, name: str, status_callback: str, apology: str, continue_url: str
) -> str:
    """Join the call to the media stream; if that ends without us, apologise and ask again."""
    return response(
        f"<Connect><Stream url={quoteattr(stream_url)} name={quoteattr(name)}"
        f' statusCallback={quoteattr(status_callback)} statusCallbackMethod="POST"/></Connect>'
        f'{say(apology)}<Redirect method="POST">{escape(continue_url)}</Redirect>'
    )


def say_hangup(text: str) -> str:
    """Say something, then hang up."""
    return response(f"{say(text)}<Hangup/>")


def say_redirect(text: str, url: str) -> str:
    """Say something, then ask `url` how to go on."""
    return response(f'{say(text)}<Redirect method="POST">{escape(url)}</Redirect>')


def redirect(url: str) -> str:
    """Ask `url` instead."""
    return response(f'<Redirect method="POST">{escape(url)}</Redirect>')


def reject(reason: str = "rejected") -> str:
    """Do not answer (and do not pay). `reason` is `rejected` or `busy`. Only before the answer."""
    if reason not in ("rejected", "busy"):
        raise ValueError(f"no reason for <Reject>: {reason!r}")
    return response(f'<Reject reason="{reason}"/>')


def message(text: str) -> str:
    """Answer a text message with another one."""
    return response(f"<Message>{escape(_printable(text)[:MESSAGE_MAX_CHARS])}</Message>")


def silent() -> str:
    """Do nothing: a text message is not answered."""
    return response("")


def hangup() -> str:
    """End the call."""
    return response("<Hangup/>")


def say(text: str) -> str:
    """A <Say> of at most SAY_MAX_CHARS, for documents that others put together."""
    return f"<Say>{escape(_printable(text)[:SAY_MAX_CHARS])}</Say>"


def _printable(text: str) -> str:
    """Without the control characters that XML 1.0 has no spelling for."""
    return "".join(letter for letter in text if letter in "\t\n" or letter.isprintable())


def response(verbs: str) -> str:
    """The document around verbs that are well-formed already."""
    return f"{_HEAD}<Response>{verbs}</Response>"
