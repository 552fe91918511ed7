"""Text messages: the Messages resource, keywords, status callbacks, and messages that come in.

As strict as Twilio where a client could go wrong: unknown parameters are refused by the REST layer, the sender
has to be an own number, and whoever sent STOP gets nothing until START (21610). Delivery goes on in the
background: queued, sent, then delivered or what `outcomes` orders.

Source: Twilio, "Messages resource", "Twilio support for opt-out keywords", errors 21211, 21602, 21604, 21606,
21610, 21614, 21617.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import trio

from bench.sim_twilio.account import API_VERSION, E164, new_sid, rfc2822
from bench.sim_twilio.rest_error import RestError
from bench.sim_twilio.webhooks import Reply

if TYPE_CHECKING:
    from bench.sim_twilio.sim import TwilioSim

CREATE = frozenset(
    {
        "AddressRetention",
        "ApplicationSid",
        "Attempt",
        "Body",
        "ContentRetention",
        "ContentSid",
        "ContentVariables",
        "ForceDelivery",
        "From",
        "MaxPrice",
        "MediaUrl",
        "MessagingServiceSid",
        "PersistentAction",
        "ProvideFeedback",
        "RiskCheck",
        "ScheduleType",
        "SendAsMms",
        "SendAt",
        "ShortenUrls",
        "SmartEncoded",
        "StatusCallback",
        "To",
        "ValidityPeriod",
    }
)
LIST = frozenset({"To", "From", "DateSent", "DateSent<", "DateSent>"})
BODY_MAX_CHARS = 1_600
STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
START = frozenset({"START", "UNSTOP", "YES"})
PRICE = "-0.00790"

Params: TypeAlias = Mapping[str, Sequence[str]]


@dataclass(slots=True)
class SimMessage:
    """One message."""

    account_sid: str
    direction: str
    from_number: str
    to_number: str
    body: str
    status: str
    created_at: datetime
    status_callback: str = ""
    sid: str = field(default_factory=lambda: new_sid("SM"))
    sent_at: datetime | None = None
    error_code: int | None = None
    settled: trio.Event = field(default_factory=trio.Event)
    """Set when its last status was told."""

    def resource(self) -> dict[str, Any]:
        """The JSON object."""
        uri = f"/{API_VERSION}/Accounts/{self.account_sid}/Messages/{self.sid}"
        is_over = self.status in ("delivered", "undelivered", "received")
        return {
            "sid": self.sid,
            "account_sid": self.account_sid,
            "messaging_service_sid": None,
            "from": self.from_number,
            "to": self.to_number,
            "body": self.body,
            "status": self.status,
            "direction": self.direction,
            "num_segments": "1",
            "num_media": "0",
            "price": PRICE if is_over else None,
            "price_unit": "USD",
            "error_code": self.error_code,
            "error_message": None,
            "api_version": API_VERSION,
            "date_created": rfc2822(self.created_at),
            "date_sent": rfc2822(self.sent_at),
            "date_updated": rfc2822(self.sent_at or self.created_at),
            "uri": uri + ".json",
            "subresource_uris": {"media": uri + "/Media.json"},
        }


class Post:
    """All messages of a simulator.

    `outcomes[e164]` says how delivery to a number ends: 0 delivered, else the error code with which it is
    undelivered (30003, 30007, …); `refusals[e164]` the code with which a send is refused (21614, 21211).
    """

    def __init__(self) -> None:
        self.messages: dict[str, SimMessage] = {}
        self.opted_out: set[tuple[str, str]] = set()
        """`(customer, our number)`: has sent STOP."""
        self.outcomes: dict[str, int] = {}
        self.refusals: dict[str, int] = {}

    def sent_to(self, e164: str) -> list[SimMessage]:
        """What was made for a number, the oldest first."""
        return [m for m in self.messages.values() if m.to_number == e164]


def create(
    sim: TwilioSim, account_sid: str, params: Params, start: Callable[[SimMessage], None]
) -> SimMessage:
    """Make a message and have it delivered. Raises RestError."""
    given = {name: values[0] for name, values in params.items()}
    to, from_, body = (given.get(name, "") for name in ("To", "From", "Body"))
    if not to:
        raise RestError(400, 21604, "A 'To' phone number is required.")
    if not from_:
        raise RestError(400, 21603, "A 'From' phone number is required.")
    if not body:
        raise RestError(400, 21602, "Message body is required.")
    if len(body) > BODY_MAX_CHARS:
        raise RestError(
            400, 21617, "The concatenated message body exceeds the 1600 character limit"
        )
    if not E164.fullmatch(to):
        raise RestError(400, 21211, f"Invalid 'To' Phone Number: {to}")
    owned = sim.numbers.get(from_)
    if owned is None or (owned.account_sid or sim.account_sid) != account_sid:
        raise RestError(
            400, 21606, f"The From phone number {from_} is not a valid message-capable number"
        )
    callback = given.get("StatusCallback", "")
    if callback and urlsplit(callback).scheme not in ("http", "https"):
        raise RestError(400, 21609, "The StatusCallback URL is not a valid URL")
    if (to, from_) in sim.post.opted_out:
        raise RestError(400, 21610, "Attempt to send to unsubscribed recipient")
    if to in sim.post.refusals:
        raise RestError(400, sim.post.refusals[to], f"'To' number {to} cannot be reached")
    message = SimMessage(
        account_sid=account_sid,
        direction="outbound-api",
        from_number=from_,
        to_number=to,
        body=body,
        status="queued",
        created_at=sim.now(),
        status_callback=callback,
    )
    sim.post.messages[message.sid] = message
    start(message)
    return message


def select(messages: Iterable[SimMessage], account_sid: str, params: Params) -> list[SimMessage]:
    """The account's messages that the filters let through, the newest first."""
    to, from_ = (params.get(name, [""])[0] for name in ("To", "From"))
    return [
        message
        for message in reversed(list(messages))
        if message.account_sid == account_sid
        and (not to or message.to_number == to)
        and (not from_ or message.from_number == from_)
    ]


async def deliver(sim: TwilioSim, message: SimMessage) -> None:
    """Queued, sent, delivered or not; each is told where the message asks for it."""
    code = sim.post.outcomes.get(message.to_number, 0)
    message.sent_at = sim.now()
    for status in ("queued", "sent", "undelivered" if code else "delivered"):
        message.status = status
        if status == "undelivered":
            message.error_code = code
        if message.status_callback:
            params = [
                ("AccountSid", message.account_sid),
                ("ApiVersion", API_VERSION),
                ("From", message.from_number),
                ("To", message.to_number),
                ("MessageSid", message.sid),
                ("SmsSid", message.sid),
                ("MessageStatus", status),
                ("SmsStatus", status),
            ]
            if message.error_code is not None:
                params.append(("ErrorCode", str(message.error_code)))
            await sim.sender.request(message.status_callback, "POST", params, call_sid=message.sid)
    message.settled.set()


async def come_in(
    sim: TwilioSim, from_number: str, to_number: str, body: str, **extra: str
) -> tuple[SimMessage, Reply]:
    """Somebody writes to one of our numbers; returns when the webhook was answered. Raises KeyError."""
    number = sim.numbers[to_number]
    message = SimMessage(
        account_sid=number.account_sid or sim.account_sid,
        direction="inbound",
        from_number=from_number,
        to_number=to_number,
        body=body,
        status="received",
        created_at=sim.now(),
    )
    sim.post.messages[message.sid] = message
    word = body.strip().upper()
    if word in STOP:
        sim.post.opted_out.add((from_number, to_number))
    elif word in START:
        sim.post.opted_out.discard((from_number, to_number))
    params = [
        ("AccountSid", message.account_sid),
        ("ApiVersion", API_VERSION),
        ("Body", body),
        ("From", from_number),
        ("FromCity", ""),
        ("FromCountry", "US"),
        ("MessageSid", message.sid),
        ("NumMedia", "0"),
        ("NumSegments", "1"),
        ("SmsMessageSid", message.sid),
        ("SmsSid", message.sid),
        ("SmsStatus", "received"),
        ("To", to_number),
        *extra.items(),
    ]
    reply = await sim.sender.request(
        number.sms_url, number.sms_method, params, call_sid=message.sid
    )
    return message, reply
