"""The simulated Twilio as a whole: one account, its numbers, its calls, its REST API."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import trio

from bench.sim_twilio.account import E164, Number
from bench.sim_twilio.accounts_resource import Accounts, SubAccount
from bench.sim_twilio.addresses_resource import Address
from bench.sim_twilio.call import DebuggerEntry, DocumentSource, SimCall, StatusTarget
from bench.sim_twilio.callbacks import Delivery
from bench.sim_twilio.callee import Caller
from bench.sim_twilio.compliance_resource import Compliance
from bench.sim_twilio.connecting import StreamOptions
from bench.sim_twilio.faults import Fault, Faults
from bench.sim_twilio.geo_resource import Geo
from bench.sim_twilio.life import run_inbound, run_outbound
from bench.sim_twilio.market import Market
from bench.sim_twilio.rest import RestApi
from bench.sim_twilio.server import serve_connection
from bench.sim_twilio.sms_resource import Post, SimMessage, come_in, deliver
from bench.sim_twilio.verbs import Carrier
from bench.sim_twilio.webhooks import Attempt, Reply, Webhooks

SAY_S_PER_CHAR = 0.06
REMEMBERED_WEBHOOKS = 10_000
UNKNOWN_DESTINATION = Caller(result="failed")


class TwilioSim:
    """A fake Twilio account, with its subaccounts (`accounts`).

    `numbers[e164]` are the owned numbers with their webhooks, `destinations[e164]` say how people whom
    the account calls behave (unknown ones fail), `calls[sid]` are all calls so far. `run` serves the
    REST API on loopback and carries every call; cancel it to tear everything down.
    """

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        numbers: Iterable[str | Number] = (),
        *,
        destinations: Mapping[str, Caller] | None = None,
        verified_numbers: Iterable[str] = (),
        available: Iterable[str] | None = None,
        api_keys: Mapping[str, str] | None = None,
        friendly_name: str = "Simulated account",
        cps: float | None = None,
        latency_s: float = 0.0,
        port: int = 0,
        require_wss: bool = False,
        ws_trailing_slash: bool = False,
        stream_options: StreamOptions | None = None,
        delivery: Delivery | None = None,
        say_s_per_char: float = SAY_S_PER_CHAR,
        now: Callable[[], datetime] | None = None,
        webhook_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.account_sid = account_sid
        self.friendly_name = friendly_name
        self.created_at = datetime.now(UTC)
        self._running_since: float | None = None
        self.now = now or self._now
        born = self.created_at
        owned = (n if isinstance(n, Number) else Number(n, created_at=born) for n in numbers)
        self.numbers: dict[str, Number] = {number.phone_number: number for number in owned}
        self.destinations: dict[str, Caller] = dict(destinations or {})
        self.verified_numbers = set(verified_numbers)
        self.market = Market(only=None if available is None else set(available))
        """Numbers that can be bought; `available=None` = any."""
        self.addresses: dict[str, Address] = {}
        self.approved_bundles: set[str] = set()
        self.compliance = Compliance(self)
        self.post = Post()
        """Text messages."""
        self.geo = Geo()
        main = SubAccount(account_sid, auth_token, account_sid, friendly_name, self.created_at)
        self.accounts = Accounts(main, api_keys or {})
        self.cps = cps
        self.latency_s = latency_s
        self.delivery = delivery or Delivery()
        self.stream_options = stream_options or StreamOptions(
            require_wss=require_wss, trailing_slash=ws_trailing_slash
        )
        self.say_s_per_char = say_s_per_char
        self.calls: dict[str, SimCall] = {}
        self.webhooks: deque[Attempt] = deque(maxlen=REMEMBERED_WEBHOOKS)
        self.faults = Faults()
        self.rest = RestApi(self)
        self.base_url = ""
        self._port = port
        self._transport = webhook_transport
        self._nursery: trio.Nursery | None = None
        self._carrier: Carrier | None = None
        self._sender: Webhooks | None = None
        self._next_slot_at: dict[str, float] = {}

    # ---- life --------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; reports `base_url` when ready. Raises: OSError if the port is taken."""
        listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}"
        self._running_since = trio.current_time()
        self.created_at = datetime.now(UTC)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx.AsyncClient(
            transport=self._transport, limits=limits, trust_env=False
        ) as client:
            webhooks = Webhooks(client, self.accounts.token_of, self._remember)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._sender = webhooks
                self._carrier = Carrier(
                    webhooks=webhooks,
                    auth_token=self.accounts.token_of,
                    destinations=self.destinations,
                    stream_options=lambda: self.stream_options,
                    now=self.now,
                    say_s_per_char=self.say_s_per_char,
                )
                serve = partial(trio.serve_listeners, self.serve_rest, listeners)
                nursery.start_soon(serve)
                task_status.started(self.base_url)
                await trio.sleep_forever()

    async def serve_rest(self, stream: trio.abc.Stream) -> None:
        """Serve the REST API on one connection."""
        await serve_connection(stream, self.rest.handle)

    async def hang_up_all(self) -> None:
        """Hang up every call and wait until all are settled."""
        for call in list(self.calls.values()):
            call.hang_up()
        for call in list(self.calls.values()):
            await call.settled()

    # ---- messages ----------------------------------------------------------------------------

    @property
    def sender(self) -> Webhooks:
        """Who sends webhooks. Raises RuntimeError unless the simulator runs."""
        if self._sender is None:
            raise RuntimeError("the simulator is not running")
        return self._sender

    async def text_in(
        self, from_number: str, to_number: str, body: str, **extra: str
    ) -> tuple[SimMessage, Reply]:
        """Somebody writes to one of our numbers; the message, and how the webhook was answered."""
        return await come_in(self, from_number, to_number, body, **extra)

    def deliver_text(self, message: SimMessage) -> None:
        """Carry a message to its recipient, in the background."""
        if self._nursery is None:
            raise RuntimeError("the simulator is not running")
        self._nursery.start_soon(deliver, self, message)

    # ---- accounts ----------------------------------------------------------------------------

    @property
    def auth_token(self) -> str:
        """The main account's."""
        return self.accounts.main.auth_token

    @auth_token.setter
    def auth_token(self, token: str) -> None:
        self.accounts.main.auth_token = token

    def numbers_of(self, account_sid: str) -> list[Number]:
        """The numbers that an account owns."""
        owned = self.numbers.values()
        return [one for one in owned if (one.account_sid or self.account_sid) == account_sid]

    def calls_of(self, account_sid: str) -> list[SimCall]:
        """The calls of an account."""
        return [call for call in self.calls.values() if call.account_sid == account_sid]

    # ---- calls -------------------------------------------------------------------------------

    async def call_in(
        self,
        from_number: str,
        to_number: str,
        caller: Caller | None = None,
        *,
        extra_params: dict[str, str] | None = None,
    ) -> SimCall:
        """Somebody calls one of our numbers; returns at once. Raises: KeyError if it is not ours.

        `extra_params` add to or replace the webhooks' parameters (`ForwardedFrom`, `StirVerstat`, …).
        """
        number = self.numbers[to_number]
        call = SimCall(
            account_sid=number.account_sid or self.account_sid,
            direction="inbound",
            from_number=from_number,
            to_number=to_number,
            phone_number_sid=number.sid,
            caller=caller or Caller(),
            now=self.now,
            delivery=self.delivery,
            source=DocumentSource(
                url=number.voice_url,
                method=number.voice_method,
                fallback_url=number.voice_fallback_url,
                fallback_method=number.voice_fallback_method,
            ),
            status_target=StatusTarget(number.status_callback, number.status_callback_method),
            extra_params=extra_params,
        )
        nursery, carrier = self._book(call)
        nursery.start_soon(run_inbound, carrier, call)
        await trio.lowlevel.checkpoint()
        return call

    def queue_call(
        self,
        *,
        to: str,
        caller_id: str,
        account_sid: str = "",
        source: DocumentSource,
        status_target: StatusTarget,
        ring_timeout_s: float,
        time_limit_s: float,
    ) -> SimCall:
        """Queue an outbound call, to be dialled when the account's calls per second allow."""
        owned = self.numbers.get(caller_id)
        call = SimCall(
            account_sid=account_sid or self.account_sid,
            direction="outbound-api",
            from_number=caller_id,
            to_number=to,
            phone_number_sid=owned.sid if owned else None,
            caller=self.destinations.get(to, UNKNOWN_DESTINATION),
            now=self.now,
            delivery=self.delivery,
            source=source,
            status_target=status_target,
        )
        call.ring_timeout_s = ring_timeout_s
        call.time_limit_s = time_limit_s
        slot_at = self._take_slot(call.account_sid)
        call.queue_time_ms = round((slot_at - trio.current_time()) * 1000)
        nursery, carrier = self._book(call)
        nursery.start_soon(run_outbound, carrier, call, slot_at)
        return call

    @property
    def debugger(self) -> list[DebuggerEntry]:
        """Every error and warning, of all calls."""
        return [entry for call in self.calls.values() for entry in call.warnings]

    # ---- faults ------------------------------------------------------------------------------

    def fail_next(
        self,
        method: str,
        path_prefix: str,
        status: int,
        code: int = 20500,
        times: int = 1,
        message: str = "",
        *,
        acts_first: bool = False,
    ) -> None:
        """Answer the next `times` such requests with an error instead of acting, or after it.

        `path_prefix` is a path as in the URL, with or without `/2010-04-01/Accounts/AC…`: `/Calls`.
        `method` may be `*`. 429 goes with code 20429, 500 with 20500.
        """
        fault = Fault(method, path_prefix, times, status, code, message, acts_first=acts_first)
        self.faults.add(fault)

    def delay(
        self,
        method: str,
        path_prefix: str,
        delay_s: float,
        times: int = 1,
        *,
        acted: bool = True,
    ) -> None:
        """Answer the next `times` such requests late; `acted`: the request takes effect at once."""
        self.faults.add(Fault(method, path_prefix, times, delay_s=delay_s, acted=acted))

    def lose_answer(
        self,
        method: str,
        path_prefix: str,
        times: int = 1,
        *,
        acted: bool = True,
        delay_s: float = 0.0,
    ) -> None:
        """Close the connection without an answer, after acting on the request unless `acted` is off."""
        self.faults.add(Fault(method, path_prefix, times, lose=True, acted=acted, delay_s=delay_s))

    # ---- inside ------------------------------------------------------------------------------

    def _now(self) -> datetime:
        """Wall time that follows Trio's clock, so that durations are right under a mock clock."""
        if self._running_since is None:
            return self.created_at
        return self.created_at + timedelta(seconds=trio.current_time() - self._running_since)

    def _book(self, call: SimCall) -> tuple[trio.Nursery, Carrier]:
        if self._nursery is None or self._carrier is None:
            raise RuntimeError("the simulator is not running")
        self.calls[call.sid] = call
        self._nursery.start_soon(call.callbacks.deliver, self._carrier.webhooks)
        return self._nursery, self._carrier

    def _take_slot(self, account_sid: str) -> float:
        now = trio.current_time()
        slot_at = max(now, self._next_slot_at.get(account_sid, now))
        if self.cps:
            self._next_slot_at[account_sid] = slot_at + 1 / self.cps
        return slot_at

    def _remember(self, attempt: Attempt) -> None:
        self.webhooks.append(attempt)
        call = self.calls.get(attempt.call_sid)
        if call is not None:
            call.webhooks.append(attempt)

    def has_approved_bundle(self, bundle_sid: str) -> bool:
        """Whether a number may be bought under this regulatory bundle."""
        return bundle_sid in self.approved_bundles or self.compliance.is_approved(bundle_sid)

    def number_for(self, e164: str) -> Number:
        """The owned number, bought on the spot if need be. Raises: ValueError if it is no E.164 number."""
        if not E164.fullmatch(e164):
            raise ValueError(f"{e164} is no E.164 number")
        return self.numbers.setdefault(e164, Number(e164, created_at=self.now()))
