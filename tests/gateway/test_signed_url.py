"""The signed URL of the agent leg, in memory: what it may lead to, and every deadline just before and just after."""

import dataclasses
import socket
import ssl

import httpcore
import pytest
import trio

from gateway.errors import LegClosed, LegProtocolError, LegRefused, LegTimeout
from gateway.legs import http_client, open_agent_leg
from tests.gateway.legs_rig import PLAN, SETTINGS, Memory, answer, answering, refused, signed

# ---- the signed URL ------------------------------------------------------------------------------


async def test_signed_url_is_asked_for_with_the_key_of_the_plan():
    """The agent is named in the query, whatever is in its name; the key goes in its header."""
    heads = []

    def reply(head):
        heads.append(head.decode().split("\r\n"))
        return signed("http://127.0.0.1:1/")

    plan = dataclasses.replace(PLAN, elevenlabs_agent_id="agent 1&x=ä")
    await refused(LegProtocolError, answering(reply), plan=plan)
    ((first, *headers),) = heads
    path = "/v1/convai/conversation/get-signed-url?agent_id=agent+1%26x%3D%C3%A4"
    assert first == f"GET {path} HTTP/1.1"
    assert {"host: 127.0.0.1:1", "xi-api-key: key-secret", "accept-encoding: identity"} <= {
        header.replace("Host:", "host:") for header in headers
    }


@pytest.mark.parametrize(
    ("base", "host", "connected"),
    [
        ("https://api.elevenlabs.io", "api.elevenlabs.io", ("api.elevenlabs.io", 443)),
        ("https://api.elevenlabs.io/", "api.elevenlabs.io", ("api.elevenlabs.io", 443)),
        ("http://[::1]:8080", "[::1]:8080", ("::1", 8080)),
    ],
)
async def test_signed_url_is_asked_for_where_the_plan_says(base, host, connected):
    """The configured host, its port, and both in the header that names them."""
    heads = []

    def reply(head):
        heads.append(head)
        return signed("http://127.0.0.1:1/")

    network = Memory(reply)
    plan = dataclasses.replace(PLAN, elevenlabs_base_url=base)
    http = http_client(ssl.create_default_context(), network)
    await refused(LegProtocolError, http, plan=plan)
    assert network.connected == [connected]
    assert f"\r\nhost: {host}\r\n".encode() in heads[0]


async def test_connection_for_signed_urls_is_kept_for_the_next_call():
    """After an answer that was read to its end."""
    network = Memory(answer(200, b"{}"))
    http = http_client(ssl.create_default_context(), network)
    async with http:
        for _ in range(3):
            with pytest.raises(LegProtocolError):
                await open_agent_leg(
                    PLAN, SETTINGS, http, ssl.create_default_context(), lambda _: None
                )
    assert len(network.connected) == 1


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (answer(401), LegRefused, "refused (401)"),
        (answer(502, b"<html>" * 100_000), LegRefused, "refused (502)"),
        (answer(307, more="location: http://evil/\r\n"), LegRefused, "(307)"),
        (answer(200, b"nonsense"), LegProtocolError, "no JSON object"),
        (answer(200, b"[]"), LegProtocolError, "no JSON object"),
        (answer(200, b"{}"), LegProtocolError, "no signed_url"),
        (answer(200, b" " * 100_000), LegProtocolError, "too large"),
        (
            answer(200, b"not asked for", "content-encoding: gzip\r\n"),
            LegProtocolError,
            "no JSON object",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            LegProtocolError,
            "no signed_url",
        ),
        (answer(200, b"{}")[:-1], LegClosed, "RemoteProtocolError"),
        (b"", LegClosed, "RemoteProtocolError"),
        (b"nonsense\r\n\r\n", LegClosed, "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, LegClosed, "RemoteProtocolError"),
        (httpcore.ConnectError("no"), LegClosed, "ConnectError"),
        (httpcore.ReadError("no"), LegClosed, "ReadError"),
        (httpcore.ConnectTimeout("no"), LegClosed, "ConnectTimeout"),
    ],
    ids=[
        "status",
        "status_with_a_large_page",
        "redirect",
        "no_json",
        "no_object",
        "no_url",
        "too_large",
        "compressed",
        "chunked",
        "cut_short",
        "closed",
        "no_http",
        "endless_head",
        "no_connection",
        "connection_lost",
        "no_connection_in_time",
    ],
)
async def test_signed_url_that_is_not_given_has_its_reason(reply, error, words):
    """Each failure has its class and its words."""
    assert words in str(await refused(error, answering(reply)))


@pytest.mark.parametrize(
    ("base", "url", "words"),
    [
        ("https://api.elevenlabs.io", "wss://evil.example/x", "foreign host: evil.example"),
        ("https://api.elevenlabs.io", "wss://api.elevenlabs.io@evil.example/", "foreign host"),
        ("https://api.elevenlabs.io", "wss://evilelevenlabs.io/", "foreign host"),
        ("https://api.elevenlabs.io", "ws://api.elevenlabs.io/x", "not be encrypted"),
        ("http://127.0.0.1:1", "ws://api.elevenlabs.io/x", "foreign host"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1/x", "no WebSocket address"),
        ("http://127.0.0.1:1", "ws://127.0.0.1:99999/", "no WebSocket address"),
        ("http://127.0.0.1:1", "ws://[::1/", "no WebSocket address"),
        ("http://127.0.0.1:1", "ws://127.0.0.1:1/\r\nX: y", "no WebSocket address"),
        ("http://127.0.0.1:1", "ws://127.0.0.1:1/\u00e9", "no WebSocket address"),
        ("http://127.0.0.1:1", "", "no WebSocket address"),
    ],
)
async def test_signed_url_that_leads_elsewhere_is_refused(base, url, words):
    """We connect to ElevenLabs or to the configured host, encrypted where the API is, or not at all."""
    plan = dataclasses.replace(PLAN, elevenlabs_base_url=base)
    error = await refused(LegProtocolError, answering(signed(url)), plan=plan)
    assert words in str(error)


async def test_residency_hosts_of_elevenlabs_are_allowed():
    """A signed URL may name another host of theirs; only its name has to be looked up then."""
    plan = dataclasses.replace(PLAN, elevenlabs_base_url="https://api.elevenlabs.io")
    resolver = NoNames()
    trio.socket.set_custom_hostname_resolver(resolver)
    error = await refused(
        LegClosed, answering(signed("wss://api.eu.residency.elevenlabs.io/x")), plan=plan
    )
    assert "TCP connect" in str(error)
    assert resolver.asked == [("api.eu.residency.elevenlabs.io", 443)]


class NoNames(trio.abc.HostnameResolver):
    def __init__(self) -> None:
        self.asked: list[tuple] = []

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        self.asked.append((host.decode() if isinstance(host, bytes) else host, port))
        raise socket.gaierror("no such name")

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


async def test_host_name_that_cannot_be_one_is_a_failed_connect():
    """A label of seventy characters is no bug of ours."""
    plan = dataclasses.replace(PLAN, elevenlabs_base_url="https://api.elevenlabs.io")
    url = f"wss://{'a' * 70}.elevenlabs.io/"
    assert "TCP connect" in str(await refused(LegClosed, answering(signed(url)), plan=plan))


# ---- deadlines -----------------------------------------------------------------------------------


async def test_signed_url_just_in_time_is_taken(autojump_clock):
    """Just before the deadline: the next step fails, not this one."""
    delay_s = SETTINGS.agent_handshake_timeout_s - 0.01
    await refused(LegProtocolError, answering(signed("http://x/"), delay_s))


async def test_signed_url_too_late_is_a_timeout(autojump_clock):
    """Just after the deadline."""
    started_s = trio.current_time()
    delay_s = SETTINGS.agent_handshake_timeout_s + 0.01
    error = await refused(LegTimeout, answering(signed("ws://127.0.0.1:1/"), delay_s))
    assert "signed URL took longer than 5 s" in str(error)
    assert trio.current_time() - started_s == pytest.approx(SETTINGS.agent_handshake_timeout_s)


@pytest.mark.parametrize(("extra_s", "error"), [(-0.01, LegClosed), (0.01, LegTimeout)])
async def test_connect_deadline(autojump_clock, monkeypatch, extra_s, error):
    """A connect that takes a moment less is its own failure, a moment more is a timeout."""

    async def slow(host, port):
        await trio.sleep(SETTINGS.agent_connect_timeout_s + extra_s)
        raise OSError("unreachable")

    monkeypatch.setattr(trio, "open_tcp_stream", slow)
    caught = await refused(error, answering(signed("ws://127.0.0.1:1/")))
    assert "TCP connect" in str(caught)
