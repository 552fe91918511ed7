"""Twilio's webhooks. No decision is made here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast

from quart import Blueprint, Response, request

from control.metrics import Metrics
from control.store import StoreUnavailable
from control.transfer.order import TRANSFER
from control.twilio import signature, twiml
from control.warming import REGRET

ANSWERS_KEPT = 2000
"""Documents remembered by idempotency token: a repeated request gets the same one."""

Form: TypeAlias = Mapping[str, str]
Handler: TypeAlias = Callable[[Form, "str | None"], Awaitable[Response]]


class Webhooks(Protocol):
    """What is used of `control.switchboard.Switchboard`."""

    async def answer(self, form: Form, call_id: str | None = None) -> str: ...
    async def continue_call(self, form: Form, call_id: str | None) -> str: ...
    async def call_status(self, form: Form, call_id: str | None = None) -> None: ...
    async def stream_status(self, form: Form, call_id: str | None = None) -> None: ...
    async def machine_detected(self, form: Form, call_id: str | None = None) -> None: ...
    async def dial_done(self, form: Form, call_id: str | None) -> str: ...
    async def leg_status(self, form: Form, call_id: str | None) -> None: ...
    async def message_left(self, form: Form, call_id: str | None) -> str: ...
    async def message_recorded(self, form: Form, call_id: str | None) -> None: ...
    async def provider_event(self, form: Form) -> None: ...


class SigningAccount(Protocol):
    @property
    def tokens(self) -> Sequence[str]: ...


class Signers(Protocol):
    """Who may sign: see `control.tenants.access.TwilioAccess`."""

    async def signing_account(
        self, account_sid: str, *, anew: bool = False
    ) -> SigningAccount | None: ...


def twilio_routes(
    switchboard: Webhooks,
    public_url: str,
    tokens: Sequence[str],
    metrics: Metrics,
    signers: Signers | None = None,
) -> Blueprint:
    """Routes below `/twilio`, each behind the signature.

    A request is signed with the token of the account that its `AccountSid` names, as `signers` knows it;
    `tokens` are for requests that name none.
    """
    hooks = _TwilioHooks(switchboard)
    guard = Guard(public_url, tokens, metrics, signers)
    routes = Blueprint("twilio", __name__, url_prefix="/twilio")
    for path, handler in (
        ("/voice", hooks.voice),
        ("/voice/fallback", hooks.fallback),
        ("/continue", hooks.go_on),
        ("/status", hooks.status),
        ("/stream", hooks.stream),
        ("/amd", hooks.machine),
        ("/dial", hooks.dial),
        ("/leg", hooks.leg),
        ("/message", hooks.message),
        ("/recorded", hooks.recorded),
    ):
        routes.add_url_rule(
            path, path.replace("/", "_"), guard.protect("/twilio" + path, handler), methods=["POST"]
        )
    debugger = guard.protect("/twilio/debugger", hooks.debugger, needs="Sid")
    routes.add_url_rule("/debugger", "_debugger", debugger, methods=["POST"])
    return routes


class _TwilioHooks:
    """What is done with a request that Twilio signed: one call to the switchboard."""

    def __init__(self, switchboard: Webhooks) -> None:
        self._switchboard = switchboard
        self._answers: dict[str, str] = {}

    async def voice(self, form: Form, call_id: str | None) -> Response:
        return await self._once(form, call_id, self._switchboard.answer)

    async def go_on(self, form: Form, call_id: str | None) -> Response:
        return await self._once(form, call_id, self._switchboard.continue_call)

    async def fallback(self, form: Form, call_id: str | None) -> Response:
        """Asked for when /twilio/voice failed: nothing in here can fail for the same reason."""
        return _document(twiml.say_hangup(REGRET))

    async def status(self, form: Form, call_id: str | None) -> Response:
        return await _noted(self._switchboard.call_status(form, call_id))

    async def stream(self, form: Form, call_id: str | None) -> Response:
        return await _noted(self._switchboard.stream_status(form, call_id))

    async def machine(self, form: Form, call_id: str | None) -> Response:
        return await _noted(self._switchboard.machine_detected(form, call_id))

    async def dial(self, form: Form, call_id: str | None) -> Response:
        return await self._once(form, call_id, self._switchboard.dial_done)

    async def message(self, form: Form, call_id: str | None) -> Response:
        return await self._once(form, call_id, self._switchboard.message_left)

    async def leg(self, form: Form, call_id: str | None) -> Response:
        told = {**form, TRANSFER: request.args.get("transfer", "")}
        return await _noted(self._switchboard.leg_status(told, call_id))

    async def recorded(self, form: Form, call_id: str | None) -> Response:
        return await _noted(self._switchboard.message_recorded(form, call_id))

    async def debugger(self, form: Form, call_id: str | None) -> Response:
        return await _noted(self._switchboard.provider_event(form))

    async def _once(
        self, form: Form, call_id: str | None, ask: Callable[[Form, str | None], Awaitable[str]]
    ) -> Response:
        # Twilio's own repetition of a request carries the same token; a call's next question does not.
        token = request.headers.get("I-Twilio-Idempotency-Token", "")
        key = f"{request.path} {form.get('CallSid')} {token}"
        document = self._answers.get(key)
        if document is None:
            document = await ask(form, call_id)
            if token:
                self._answers[key] = document
            while len(self._answers) > ANSWERS_KEPT:
                del self._answers[next(iter(self._answers))]
        return _document(document)


def _document(text: str) -> Response:
    return Response(text, 200, content_type=twiml.CONTENT_TYPE)


async def noted(noting: Awaitable[None]) -> int:
    """The status that answers a callback."""
    try:
        await noting
    except StoreUnavailable:
        return 503  # the callback's URL asks Twilio to repeat it
    return 204


async def _noted(noting: Awaitable[None]) -> Response:
    return Response(b"", await noted(noting))


class Asked(NamedTuple):
    """What of a request is looked at before anybody else sees it."""

    target: bytes
    """Path and query as they were sent."""
    body: bytes
    media_type: str
    """Without parameters, in lower case; empty when the request names none."""
    signature: str | None


class Guard:
    """Lets a handler see a request only when Twilio signed it."""

    def __init__(
        self,
        public_url: str,
        tokens: Sequence[str],
        metrics: Metrics,
        signers: Signers | None = None,
    ) -> None:
        self._signers = signers
        self._public_url = public_url
        self._tokens = tokens
        self._metrics = metrics

    def protect(
        self, path: str, handler: Handler, *, needs: str = "CallSid"
    ) -> Callable[[], Awaitable[Response]]:
        """The view function of a route; `path` is the label under which it is counted, `needs` the parameter
        without which the request says nothing."""

        async def view() -> Response:
            form = await self.admitted(await _asked(), needs)
            if isinstance(form, int):
                response = Response(b"", form)
            else:
                response = await handler(form, request.args.get("call_id") or None)
            self.count(path, response.status_code)
            return response

        return view

    def count(self, path: str, status: int) -> None:
        """A request was answered."""
        self._metrics.webhooks.labels(path, str(status)).inc()

    async def admitted(self, asked: Asked, needs: str = "CallSid") -> dict[str, str] | int:
        """The form that Twilio signed, of each name the first value; or the status that refuses the request."""
        is_form = asked.media_type in ("", "application/x-www-form-urlencoded")
        try:
            form = signature.parse_form(asked.body) if is_form else None
        except ValueError:
            return 400
        try:
            is_signed = await self._is_signed(asked, asked.body if form is None else form)
        except StoreUnavailable:
            return 503
        if not is_signed:
            self._metrics.signature_failures.inc()
            return 403
        flat = {name: values[0] for name, values in (form or {}).items()}
        return flat if flat.get(needs) else 400

    async def _is_signed(self, asked: Asked, body: dict[str, list[str]] | bytes) -> bool:
        # The public URL that was asked for; never from `Host`, which anybody may set.
        url, given = self._public_url + asked.target.decode("latin-1"), asked.signature
        account_sid = body.get("AccountSid", [""])[0] if isinstance(body, dict) else ""
        if self._signers is None or not account_sid or not given:
            return signature.valid(url, body, given, self._tokens)
        for anew in (False, True):
            account = await self._signers.signing_account(account_sid, anew=anew)
            if account is None:
                return False
            if signature.valid(url, body, given, account.tokens):
                return True
        return False


async def _asked() -> Asked:
    """The framework's request."""
    path, query = request.scope.get("raw_path") or request.path.encode(), request.query_string
    return Asked(
        path + (b"?" + query if query else b""),
        cast("bytes", await request.get_data(cache=False)),
        request.mimetype,
        request.headers.get("X-Twilio-Signature"),
    )
