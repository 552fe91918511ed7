"""Pushes to customers: signed so that the official library takes them, at least once, never to a private address."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
import standardwebhooks
import trio
from cryptography.fernet import Fernet

from bench.sim_elevenlabs.tls import throwaway_tls
from control.clock import Clock
from control.ids import new_id
from control.outbox import Outbox, steps
from control.store import Store
from control.store import webhooks as table
from control.vault import Vault
from control.webhooks_out import events, signing, targets
from control.webhooks_out.delivery import Deliveries, backoff, purpose
from control.webhooks_out.targets import BadTarget, PushFailed, check_url, push

TENANT = "tnt_default"


@dataclass
class Target:
    """A customer's server. `script` are statuses in turn, the last one for ever; None = never answers."""

    script: list[int | None]
    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)

    async def serve(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        headers: dict[str, str] = {}
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Request):
                headers = {k.decode().lower(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                break
        self.got.append((headers, body))
        status = self.script[min(len(self.got), len(self.script)) - 1]
        if status is None:
            await trio.sleep_forever()
        answer = h11.Response(status_code=status, headers=[*self.headers, ("content-length", "0")])
        data = (connection.send(answer) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        await stream.send_all(data)
        await stream.aclose()


@asynccontextmanager
async def serving(*servers: Target, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for target in servers:
                listen: Any = partial(trio.open_tcp_listeners, 0, host="127.0.0.1")
                listeners = await listen()
                port = listeners[0].socket.getsockname()[1]
                target.url = f"http{'s' if tls else ''}://127.0.0.1:{port}/hook?a=1"
                if tls is not None:
                    listeners = [trio.SSLListener(one, tls) for one in listeners]
                nursery.start_soon(trio.serve_listeners, target.serve, listeners)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def vault() -> Vault:
    return Vault([Fernet.generate_key().decode()])


async def add_target(store: Store, vault: Vault, url: str, secret: str, **more: Any) -> str:
    now = Clock().now()
    webhook_id = new_id(table.PREFIX, now)
    record = table.WebhookRecord(
        id=webhook_id,
        tenant_id=TENANT,
        url=url,
        events=["*"],
        secret=vault.seal(purpose(webhook_id), secret),
        created_at=now,
        updated_at=now,
        **more,
    )
    await store.write(table.insert, record)
    return webhook_id


async def emit(store: Store, key: str = "k", event: str = events.CALL_RESULT) -> int:
    def shown() -> dict[str, Any]:
        return {"id": key}

    return await store.write(
        events.emit, event=event, key=key, tenant_id=TENANT, data=shown, now=Clock().now()
    )


@asynccontextmanager
async def sending(store: Store, vault: Vault, **more: Any) -> AsyncIterator[Outbox]:
    outbox = Outbox(store, Clock())
    given = {"allow_private": True, "schedule": steps(*[0.01] * 5)} | more
    Deliveries(store, Clock(), vault, **given).register(outbox)
    async with trio.open_nursery() as nursery:
        await nursery.start(outbox.run)
        yield outbox
        nursery.cancel_scope.cancel()


async def settled(store: Store, webhook_id: str, count: int = 1) -> list[table.DeliveryRecord]:
    while True:
        found, _ = await store.read(table.list_deliveries, webhook_id)
        if len(found) == count and all(one.status != table.PENDING for one in found):
            return found
        await trio.sleep(0.01)


async def test_delivery_after_three_failures_is_taken_by_the_official_library(
    store: Store, vault: Vault
) -> None:
    """Four attempts with one id and one body; the signature is good for Standard Webhooks' own verifier."""
    secret = signing.new_secret()
    target = Target([500, 503, 404, 204])
    async with serving(target):
        webhook_id = await add_target(store, vault, target.url, secret)
        assert await emit(store) == 1
        assert await emit(store) == 0  # the same event again is no second delivery
        async with sending(store, vault):
            (record,) = await settled(store, webhook_id)
    assert (record.status, record.attempts, record.http_status) == ("delivered", 4, 204)
    assert len(target.got) == 4
    assert len({headers["webhook-id"] for headers, _ in target.got}) == 1
    verifier = standardwebhooks.Webhook(secret)
    for headers, body in target.got:
        assert verifier.verify(body.decode(), headers)["data"] == {"id": "k"}
        assert headers["content-type"] == "application/json"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verifier.verify(target.got[0][1].decode() + " ", target.got[0][0])


async def test_target_that_never_takes_it_ends_as_dead_letter_and_replays(
    store: Store, vault: Vault
) -> None:
    """After the last attempt it waits for a person; replayed, it has the same id."""
    target = Target([500, 500, 500, 200])
    async with serving(target):
        webhook_id = await add_target(store, vault, target.url, signing.new_secret())
        await emit(store)
        async with sending(store, vault, schedule=steps(0.01, 0.01)) as outbox:
            (record,) = await settled(store, webhook_id)
            assert (record.status, record.attempts, record.last_error) == ("dead", 3, "HTTP 500")
            now = Clock().now()
            await store.write(table.update_delivery, record.id, status=table.PENDING)
            await store.write(events.queue, record, now)
            outbox.wake()
            (record,) = await settled(store, webhook_id)
    assert (record.status, record.attempts) == ("delivered", 4)
    assert len({headers["webhook-id"] for headers, _ in target.got}) == 1


async def test_target_that_never_answers_holds_up_no_other(store: Store, vault: Vault) -> None:
    """More events than lanes wait for the silent one; the other gets all of its own meanwhile."""
    silent, quick = Target([None]), Target([200])
    async with serving(silent, quick):
        await add_target(store, vault, silent.url, signing.new_secret())
        webhook_id = await add_target(store, vault, quick.url, signing.new_secret())
        for number in range(12):
            assert await emit(store, f"k{number}") == 2
        async with sending(store, vault, deadline_s=20.0):
            found = await settled(store, webhook_id, 12)
    assert {one.status for one in found} == {"delivered"}
    assert len(silent.got) <= events.LANES


async def test_target_that_never_answers_fails_at_the_deadline() -> None:
    """And says so."""
    silent = Target([None])
    async with serving(silent):
        with pytest.raises(PushFailed, match=r"no answer within 0\.2 s"):
            await push(httpx.URL(silent.url), b"", {}, allow_private=True, deadline_s=0.2)


async def test_redirect_is_not_followed() -> None:
    """It could lead to where nobody checked."""
    target = Target([302])
    target.headers = [("location", "http://127.0.0.1:1/")]
    async with serving(target):
        with pytest.raises(PushFailed, match="redirects are not followed"):
            await push(httpx.URL(target.url), b"", {}, allow_private=True)
    assert len(target.got) == 1


async def test_gone_switches_the_target_off(store: Store, vault: Vault) -> None:
    """410 is the target's word that it wants no more."""
    target = Target([410])
    async with serving(target):
        webhook_id = await add_target(store, vault, target.url, signing.new_secret())
        await emit(store)
        async with sending(store, vault):
            (record,) = await settled(store, webhook_id)
    webhook = await store.read(table.get, webhook_id)
    assert webhook is not None
    assert (record.status, webhook.enabled) == ("dead", False)
    assert await emit(store, "later") == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "expected https"),
        ("http://example.com/", "expected https"),
        ("https://", "host"),
        ("https://user:pass@example.com/", "user and password"),
        ("https://example.com/#x", "fragment"),
        ("https://127.0.0.1/", "private or local"),
        ("https://[::1]/", "private or local"),
        ("https://10.1.2.3/", "private or local"),
        ("https://169.254.169.254/latest", "private or local"),
        ("https://[::ffff:127.0.0.1]/", "private or local"),
        ("https://[64:ff9b::7f00:1]/", "private or local"),
        ("https://[2002:7f00:1::]/", "private or local"),
        ("https://0.0.0.0/", "no address of a host"),
        ("https://224.0.0.1/", "no address of a host"),
        ("https://localhost/", "this machine"),
        ("https://x.localhost/", "this machine"),
        ("https://example.com/" + "a" * 2000, "longer than"),
    ],
)
def test_url_that_leads_nowhere_good_is_refused(url: str, words: str) -> None:
    """Before anything is asked of anybody."""
    with pytest.raises(BadTarget, match=words):
        check_url(url, allow_private=False)


async def test_name_with_one_private_address_is_refused() -> None:
    """Every address is checked, not only the first; nothing is sent."""

    async def resolver(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "10.0.0.1"]

    with pytest.raises(BadTarget, match=r"10\.0\.0\.1 is a private"):
        await push(
            httpx.URL("https://rebind.example/"), b"", {}, allow_private=False, resolver=resolver
        )


async def test_connection_goes_to_the_address_that_was_checked(tmp_path: Path) -> None:
    """Resolved once; the certificate and `Host` are those of the name."""
    server, certificate = throwaway_tls(tmp_path)
    client = ssl.create_default_context(cafile=str(certificate))
    asked = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    target = Target([200])
    async with serving(target, tls=server):
        port = httpx.URL(target.url).port
        url = httpx.URL(f"https://localhost:{port}/in?x=1")
        answer = await push(url, b"{}", {}, allow_private=True, resolver=resolver, verify=client)
        assert answer.status == 200
        wrong = url.copy_with(host="other.example")
        with pytest.raises(PushFailed, match="certificate"):
            await push(wrong, b"{}", {}, allow_private=True, resolver=resolver, verify=client)
    assert asked == [("localhost", port), ("other.example", port)]
    assert target.got[0][0]["host"] == f"localhost:{port}"


async def test_private_target_that_was_let_in_once_is_refused_at_sending(
    store: Store, vault: Vault
) -> None:
    """The check is made at every attempt: a name may point elsewhere by then."""
    webhook_id = await add_target(store, vault, "https://x.example/", signing.new_secret())
    await emit(store)

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with sending(store, vault, allow_private=False, resolver=resolver):
        (record,) = await settled(store, webhook_id)
    assert (record.status, record.last_error) == (
        "dead",
        "refused: 127.0.0.1 is a private or local address",
    )


def test_backoff_doubles_to_a_day() -> None:
    """Never later than a day after the first attempt, and most of it is used."""
    schedule = backoff()
    waits = []
    while (wait := schedule(len(waits) + 1)) is not None:
        waits.append(wait)
    assert waits[:4] == [5.0, 10.0, 20.0, 40.0]
    assert 18 * 3600 < sum(waits) <= 24 * 3600
    assert max(waits) <= targets_max()


def targets_max() -> float:
    return 6 * 3600.0


def test_secret_has_the_form_of_standard_webhooks() -> None:
    """The official library takes it as it is."""
    assert signing.new_secret().startswith("whsec_")
    assert targets.DEADLINE_S < 30
