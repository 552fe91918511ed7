"""TwiML: parsing and checking a document. Pure; carrying it out is `verbs`.

Source: Twilio, "TwiML for Programmable Voice", and its error dictionary for the codes.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from urllib.parse import urljoin

DOCUMENT_MAX_BYTES = 64 * 1024
_CONTENT_TYPES = ("text/xml", "application/xml", "text/html")

_NOUN = frozenset(
    {"url", "method", "statusCallback", "statusCallbackMethod", "statusCallbackEvent"}
)
_AMD = frozenset({"machineDetection", "amdStatusCallback", "amdStatusCallbackMethod"})
_ATTRIBUTES: dict[str, frozenset[str]] = {
    "Connect": frozenset({"action", "method"}),
    "Dial": frozenset(
        {
            "action",
            "method",
            "answerOnBridge",
            "callerId",
            "callReason",
            "hangupOnStar",
            "record",
            "recordingStatusCallback",
            "recordingStatusCallbackMethod",
            "recordingStatusCallbackEvent",
            "recordingTrack",
            "referUrl",
            "referMethod",
            "ringTone",
            "sequential",
            "timeLimit",
            "timeout",
            "trim",
        }
    ),
    "Number": _NOUN | frozenset({"sendDigits", "byoc"}) | _AMD,
    "Client": _NOUN | frozenset({"clientNotificationUrl"}),
    "Identity": frozenset(),
    "Sip": _NOUN | frozenset({"username", "password"}) | _AMD,
    "Conference": frozenset(
        {
            "muted",
            "beep",
            "startConferenceOnEnter",
            "endConferenceOnExit",
            "participantLabel",
            "jitterBufferSize",
            "waitUrl",
            "waitMethod",
            "maxParticipants",
            "record",
            "region",
            "trim",
            "coach",
            "statusCallback",
            "statusCallbackMethod",
            "statusCallbackEvent",
            "recordingStatusCallback",
            "recordingStatusCallbackMethod",
            "recordingStatusCallbackEvent",
            "eventCallbackUrl",
        }
    ),
    "Record": frozenset(
        {
            "action",
            "method",
            "timeout",
            "finishOnKey",
            "maxLength",
            "playBeep",
            "trim",
            "recordingStatusCallback",
            "recordingStatusCallbackMethod",
            "recordingStatusCallbackEvent",
            "transcribe",
            "transcribeCallback",
        }
    ),
    "Gather": frozenset({"input", "action", "method", "timeout", "numDigits", "finishOnKey"}),
    "Hangup": frozenset(),
    "Pause": frozenset({"length"}),
    "Play": frozenset({"loop", "digits"}),
    "Redirect": frozenset({"method"}),
    "Reject": frozenset({"reason"}),
    "Say": frozenset({"voice", "language", "loop"}),
    "Start": frozenset({"action", "method"}),
    "Stop": frozenset(),
    "Stream": frozenset(
        {"url", "name", "track", "statusCallback", "statusCallbackMethod", "connectorName"}
    ),
    "Parameter": frozenset({"name", "value"}),
}
"""Attributes of the elements that are interpreted; another one is a schema warning, 12200."""
_NOUNS = frozenset({"Stream", "Parameter", "Number", "Client", "Identity", "Sip", "Conference"})
_ROOT_VERBS = frozenset(_ATTRIBUTES) - _NOUNS


class TwimlError(Exception):
    """A document that Twilio refuses: its code and words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Element:
    """A verb or noun."""

    name: str
    attributes: dict[str, str]
    text: str
    children: tuple[Element, ...]

    def child(self, name: str) -> Element | None:
        """The first child of that name."""
        return next((child for child in self.children if child.name == name), None)


@dataclass(frozen=True, slots=True)
class Document:
    """A checked document, where it came from, and what Twilio's debugger would say about it."""

    verbs: tuple[Element, ...]
    url: str
    warnings: tuple[str, ...] = ()

    def resolve(self, url: str) -> str:
        """An absolute URL for one written in the document."""
        return urljoin(self.url, url.strip())


def parse(body: bytes | str, *, url: str = "", content_type: str = "text/xml") -> Document:
    """Parse one document.

    Raises: TwimlError 11750 (over 64 kB), 12300 (content type), 12100 (not XML), 12102 (wrong root).
    """
    data = body.encode() if isinstance(body, str) else body
    if len(data) > DOCUMENT_MAX_BYTES:
        raise TwimlError(11750, "TwiML response body too large")
    if content_type.partition(";")[0].strip().lower() not in _CONTENT_TYPES:
        raise TwimlError(12300, f"Invalid Content-Type: {content_type}"[:120])
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise TwimlError(12100, f"Document parse failure: {error}") from error
    if root.tag != "Response":
        raise TwimlError(12102, f"Invalid root element: {root.tag}"[:120])
    warnings: list[str] = []
    verbs = [_element(child, warnings) for child in root]
    warnings.extend(f"unknown verb {v.name}" for v in verbs if v.name not in _ROOT_VERBS)
    known = tuple(verb for verb in verbs if verb.name in _ROOT_VERBS)
    return Document(known, url, tuple(warnings))


def _element(node: ET.Element, warnings: list[str]) -> Element:
    allowed = _ATTRIBUTES.get(node.tag)
    if allowed is not None:
        warnings.extend(
            f"attribute {name} is not allowed on {node.tag}"
            for name in node.attrib
            if name not in allowed
        )
    children = tuple(_element(child, warnings) for child in node)
    return Element(node.tag, dict(node.attrib), (node.text or "").strip(), children)
