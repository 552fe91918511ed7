"""The REST resources of the 2010 API that the simulator knows: Account, Calls, numbers for sale and owned.

Form bodies, JSON answers, HTTP Basic, Twilio's error codes. Source: Twilio, "REST API" and its error
dictionary. A parameter that the resource does not have is refused, so that a client's typing error shows.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlencode, urlsplit

import trio

from bench.sim_twilio import (
    account,
    accounts_resource,
    addresses_resource,
    available_resource,
    calls_resource,
    numbers_resource,
    sms_resource,
    usage_resource,
)
from bench.sim_twilio.account import API_VERSION
from bench.sim_twilio.rest_error import RestError
from bench.sim_twilio.server import Request, Response

if TYPE_CHECKING:
    from bench.sim_twilio.sim import TwilioSim

_ACCOUNTS = f"/{API_VERSION}/Accounts"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 1_000
EXCHANGES_KEPT = 10_000
PAGING = frozenset({"Page", "PageSize", "PageToken"})

Params: TypeAlias = Mapping[str, Sequence[str]]


class RestApi:
    """Answers REST requests out of a simulator's state."""

    def __init__(self, sim: TwilioSim) -> None:
        self._sim = sim
        self._running = 0
        self.requests: list[tuple[str, str]] = []
        """Method and path of everything that was asked, in order."""
        self.exchanges: deque[tuple[Request, Response]] = deque(maxlen=EXCHANGES_KEPT)
        """The last requests that were answered, with their answers."""

    async def handle(self, request: Request) -> Response | None:
        """Answer one request, with the faults that were ordered; `None` closes the connection."""
        self.requests.append((request.method, request.path))
        account_sid = (_parts(request.path) or [""])[0]
        prefix = f"{_ACCOUNTS}/{account_sid}"
        fault = self._sim.faults.take(request.method, request.path, prefix)
        began_s = trio.current_time()
        self._running += 1
        response: Response | None
        try:
            if fault is not None and fault.status:
                if fault.acts_first:
                    self._act(request)
                response = _error(RestError(fault.status, fault.code, fault.message or "Ordered"))
            elif fault is not None and not fault.acted:
                await trio.sleep(fault.delay_s)
                response = None if fault.lose else self._act(request)
            else:
                response = self._act(request)
                await trio.sleep(self._sim.latency_s + (fault.delay_s if fault else 0.0))
            if response is None or (fault is not None and fault.lose):
                return None
            self.exchanges.append((request, response))
            return self._with_headers(response, began_s)
        finally:
            self._running -= 1

    def _with_headers(self, response: Response, began_s: float) -> Response:
        headers = {
            **response.headers,
            "Twilio-Request-Id": "RQ" + secrets.token_hex(16),
            "Twilio-Request-Duration": f"{trio.current_time() - began_s:.3f}",
            "Twilio-Concurrent-Requests": str(self._running),
        }
        return Response(response.status, response.body, response.content_type, headers)

    def _act(self, request: Request) -> Response:
        try:
            user, password = _credentials(request)
            path = unquote(request.path)
            parts = _parts(path)
            if parts is None:
                return self._other_product(user, password, path, request)
            owner = self._sim.accounts.check(user, password, parts)
            if not parts or parts[1:2] == ["Keys"] or len(parts) == 1:
                return self._accounts(owner, user, parts, request)
            return self._route(owner, path, parts[1:], request)
        except RestError as error:
            return _error(error)

    def _other_product(self, user: str, password: str, path: str, request: Request) -> Response:
        """Products on hosts of their own, each account in itself alone."""
        owner = self._sim.accounts.check(user, password, [self._account_of(user), ""])
        pairs = [*request.query, *request.form] if request.method == "POST" else request.query
        for product in (self._sim.geo, self._sim.compliance):
            answered = product.answer(owner, request.method, path, pairs)
            if answered is not None:
                return _json(*answered)
        raise not_found(path)

    def _account_of(self, user: str) -> str:
        key = self._sim.accounts.keys_by_sid.get(user)
        return key.account_sid if key else user

    def _accounts(self, owner: str, user: str, parts: Sequence[str], request: Request) -> Response:
        accounts, now = self._sim.accounts, self._sim.now()
        match request.method, list(parts[1:]), bool(parts):
            case "GET", [], False:
                params = self._params(request.query, accounts_resource.LIST | PAGING)
                found = accounts.select(owner, params)
                return self._page(request, "accounts", found, lambda one: one.resource(), params)
            case "POST", [], False:
                form = self._form(request, accounts_resource.CREATE)
                return _json(201, accounts.create(owner, form, now).resource())
            case "GET", [], True:
                return _json(200, accounts[owner].resource())
            case "POST", [], True:
                form = self._form(request, accounts_resource.UPDATE)
                accounts.update(user, accounts[owner], form, now)
                return _json(200, accounts[owner].resource())
            case "GET", ["Keys"], _:
                params = self._params(request.query, PAGING)
                keys = accounts.keys_of(owner)
                return self._page(request, "keys", keys, lambda key: key.resource(), params)
            case "POST", ["Keys"], _:
                form = self._form(request, accounts_resource.KEY_CREATE)
                return _json(201, accounts.create_key(owner, form, now))
            case ("GET" | "POST" | "DELETE") as method, ["Keys", sid], _:
                return self._one_key(method, accounts.key(owner, sid), request)
            case _, [] | ["Keys"] | ["Keys", _], _:
                raise RestError(405, 20004, "Method not allowed")
            case _:
                raise not_found(request.path)

    def _one_key(self, method: str, key: accounts_resource.ApiKey, request: Request) -> Response:
        if method == "DELETE":
            del self._sim.accounts.keys_by_sid[key.sid]
            return Response(204)
        if method == "POST":
            form = self._form(request, accounts_resource.KEY_UPDATE)
            key.friendly_name = form.get("FriendlyName", [""])[0]
            key.updated_at = self._sim.now()
        return _json(200, key.resource())

    def _route(self, owner: str, path: str, parts: list[str], request: Request) -> Response:
        match request.method, parts:
            case "GET", ["Calls"]:
                params = self._params(request.query, calls_resource.LIST | PAGING)
                found = calls_resource.select(self._sim.calls_of(owner), params)
                return self._page(request, "calls", found, account.call_resource, params)
            case "POST", ["Calls"]:
                form = self._form(request, calls_resource.CREATE)
                call = calls_resource.create(self._sim, form, owner)
                return _json(201, account.call_resource(call))
            case ("GET" | "POST" | "DELETE") as method, ["Calls", sid]:
                return self._one_call(owner, method, sid, request)
            case "GET", ["IncomingPhoneNumbers"]:
                params = self._params(request.query, numbers_resource.LIST | PAGING)
                owned = numbers_resource.select(self._sim.numbers_of(owner), params)
                return self._page(request, "incoming_phone_numbers", owned, self._number, params)
            case "POST", ["IncomingPhoneNumbers"]:
                form = self._form(request, numbers_resource.CREATE)
                return _json(201, self._number(numbers_resource.create(self._sim, form, owner)))
            case ("GET" | "POST" | "DELETE") as method, ["IncomingPhoneNumbers", sid]:
                return self._one_number(owner, method, sid, request)
            case "GET", ["AvailablePhoneNumbers", *where]:
                return self._for_sale(owner, where, request)
            case _, ["Addresses", *rest]:
                return self._addresses(owner, request, rest)
            case _, ["Messages", *rest]:
                return self._messages(owner, request, rest)
            case "GET", ["Usage", "Records"]:
                params = self._params(request.query, usage_resource.LIST | PAGING)
                used = usage_resource.select(self._sim, owner, params)
                return self._page(request, "usage_records", used, lambda record: record, params)
            case _, ["Calls" | "IncomingPhoneNumbers", *rest] if len(rest) <= 1:
                raise RestError(405, 20004, "Method not allowed")
        raise not_found(path)

    def _for_sale(self, sid: str, where: Sequence[str], request: Request) -> Response:
        if len(where) < 2:
            self._params(request.query, PAGING)
            return _json(
                200,
                available_resource.country(where[0], sid)
                if where
                else available_resource.countries(sid),
            )
        params = self._params(request.query, available_resource.SEARCH | PAGING)
        limit = _page_size(params)
        filters = {name: values for name, values in params.items() if name not in PAGING}
        if len(where) != 2:
            raise not_found(request.path)
        return _json(200, available_resource.search(self._sim, sid, *where, filters, limit))

    def _addresses(self, owner: str, request: Request, rest: Sequence[str]) -> Response:
        sim = self._sim
        mine = {
            sid: one
            for sid, one in sim.addresses.items()
            if (one.account_sid or sim.account_sid) == owner
        }
        match request.method, list(rest):
            case "GET", []:
                params = self._params(request.query, addresses_resource.LIST | PAGING)
                found = addresses_resource.select(mine.values(), params)
                return self._page(request, "addresses", found, lambda a: a.resource(owner), params)
            case "POST", []:
                form = self._form(request, addresses_resource.CREATE)
                return _json(201, addresses_resource.create(sim, form, owner).resource(owner))
            case ("GET" | "DELETE") as method, [sid] if sid in mine:
                if method == "DELETE":
                    del sim.addresses[sid]
                    return Response(204)
                return _json(200, mine[sid].resource(owner))
        raise not_found(request.path)

    def _messages(self, owner: str, request: Request, rest: Sequence[str]) -> Response:
        sim = self._sim
        match request.method, list(rest):
            case "GET", []:
                params = self._params(request.query, sms_resource.LIST | PAGING)
                found = sms_resource.select(sim.post.messages.values(), owner, params)
                return self._page(request, "messages", found, lambda m: m.resource(), params)
            case "POST", []:
                form = self._form(request, sms_resource.CREATE)
                message = sms_resource.create(sim, owner, form, sim.deliver_text)
                return _json(201, message.resource())
            case "GET", [sid]:
                one = sim.post.messages.get(sid)
                if one is not None and one.account_sid == owner:
                    return _json(200, one.resource())
        raise not_found(request.path)

    def _one_call(self, owner: str, method: str, sid: str, request: Request) -> Response:
        call = self._sim.calls.get(sid)
        if call is None and method == "GET":
            for leg in (leg for one in self._sim.calls_of(owner) for leg in one.children):
                if leg.sid == sid:
                    return _json(200, account.call_resource(leg))
        if call is None or call.account_sid != owner:
            raise not_found(request.path)
        if method == "POST":
            calls_resource.update(call, self._form(request, calls_resource.UPDATE))
        elif method == "DELETE":
            if not call.is_over:
                raise RestError(409, 20009, "Call is not finished")
            del self._sim.calls[sid]
            return Response(204)
        return _json(200, account.call_resource(call))

    def _one_number(self, owner: str, method: str, sid: str, request: Request) -> Response:
        number = next((n for n in self._sim.numbers_of(owner) if n.sid == sid), None)
        if number is None:
            raise not_found(request.path)
        if method == "POST":
            form = self._form(request, numbers_resource.UPDATE)
            numbers_resource.move(self._sim, number, form)
            form = {name: values for name, values in form.items() if name != "AccountSid"}
            numbers_resource.update(number, form, self._sim.now())
        elif method == "DELETE":
            del self._sim.numbers[number.phone_number]
            return Response(204)
        return _json(200, self._number(number))

    def _number(self, number: account.Number) -> dict[str, Any]:
        return number.resource(number.account_sid or self._sim.account_sid)

    def _form(self, request: Request, known: frozenset[str]) -> Params:
        content_type = request.headers.get("content-type", "")
        if request.body and not content_type.startswith("application/x-www-form-urlencoded"):
            raise RestError(415, 20011, "Unsupported media type")
        return self._params([*request.form, *request.query], known)

    def _params(self, pairs: Sequence[tuple[str, str]], known: frozenset[str]) -> Params:
        unknown = [name for name, _ in pairs if name not in known]
        if unknown:
            raise RestError(400, 20001, f"Unknown parameter: {unknown[0]}")
        counts = Counter(name for name, _ in pairs)
        repeated = [name for name, n in counts.items() if n > 1 and not name.endswith("Event")]
        if repeated:
            raise RestError(400, 20001, f"Parameter given twice: {repeated[0]}")
        params: dict[str, list[str]] = {}
        for name, value in pairs:
            params.setdefault(name, []).append(value)
        return params

    def _page(
        self,
        request: Request,
        key: str,
        items: Iterable[Any],
        show: Callable[[Any], dict[str, Any]],
        params: Params,
    ) -> Response:
        everything = list(items)
        size = _page_size(params)
        page = _page_number(params, "Page", 0)
        token = params.get("PageToken", [""])[0]
        start = 0
        if token:
            sids = [item.sid for item in everything]
            if token[2:] not in sids:
                raise RestError(400, 20001, "Invalid page token")
            start = sids.index(token[2:]) + 1
        shown = everything[start : start + size]
        own = [(name, value) for name, value in request.query if name not in PAGING]

        def uri(page: int, after: Any = None) -> str:
            more = [("PageSize", str(size)), ("Page", str(page))]
            if after is not None:
                more.append(("PageToken", "PA" + after.sid))
            return urlsplit(request.target).path + "?" + urlencode([*own, *more])

        last = start + size >= len(everything)
        before = start - size - 1
        body = {
            key: [show(item) for item in shown],
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + max(0, len(shown) - 1),
            "uri": request.target,
            "first_page_uri": uri(0),
            "next_page_uri": None if last else uri(page + 1, shown[-1]),
            "previous_page_uri": None
            if not start
            else uri(page - 1, everything[before] if before >= 0 else None),
        }
        return _json(200, body)


def _parts(path: str) -> list[str] | None:
    """What follows `/Accounts` in a path, without `.json`; None for another path."""
    if not path.startswith(_ACCOUNTS) or not path.endswith(".json"):
        return None
    return [part for part in path[len(_ACCOUNTS) : -len(".json")].split("/") if part]


def _credentials(request: Request) -> tuple[str, str]:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user = password = ""
    return (user, password) if scheme.lower() == "basic" else ("", "")


def not_found(path: str) -> RestError:
    """20404, as Twilio words it."""
    return RestError(404, 20404, f"The requested resource {path} was not found")


def _page_number(params: Params, name: str, default: int) -> int:
    text = params.get(name, [str(default)])[0]
    if not text.isdecimal():
        raise RestError(400, 20001, f"{name} must be a number")
    return int(text)


def _page_size(params: Params) -> int:
    size = _page_number(params, "PageSize", PAGE_SIZE)
    if not 1 <= size <= PAGE_SIZE_MAX:
        raise RestError(400, 20007, "Page size must be between 1 and 1000")
    return size


def _json(status: int, body: Mapping[str, Any]) -> Response:
    return Response(status, json.dumps(body).encode())


def _error(error: RestError) -> Response:
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if error.status == 401 else {}
    return Response(error.status, json.dumps(error.body()).encode(), headers=headers)
