"""The public URL as the outside world reaches it: name, connection, TLS and answer, told apart.

From this machine, so a name that resolves differently inside (split DNS, no hairpin) is seen as it is here.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import trio

from control.config import Settings
from control.doctor.values import Finding, fail, ok, warn
from control.hooks.probe import NONCE, PATH
from control.twilio import signature

STEP_TIMEOUT_S = 5.0
CERTIFICATE_WARN = timedelta(days=14)
CHECK = "public url"


async def public_url(
    settings: Settings, now: datetime, tls: ssl.SSLContext | None = None
) -> Finding:
    """One finding: the first step that failed, or what answered. `tls` is for tests."""
    parts = urlsplit(settings.public.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with trio.fail_after(STEP_TIMEOUT_S):
            await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        text = f"DNS: {host} has no address: {_why(error)}"
        return fail(CHECK, text, "make a DNS record for the host of public.url")
    expires = None
    try:
        with trio.fail_after(STEP_TIMEOUT_S):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as error:
        text = f"TCP: nothing answers at {host}:{port}: {_why(error)}"
        return fail(CHECK, text, "start the proxy in front, open the firewall")
    context = tls or ssl.create_default_context()
    async with stream:
        if parts.scheme == "https":
            try:
                expires = await _certificate(stream, host, context)
            except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
                text = f"TLS: {_why(error)}"
                return fail(CHECK, text, "give the proxy a certificate that this host's name is in")
    return _with_expiry(await _answer(settings, context), expires, now)


async def _certificate(
    stream: trio.SocketStream, host: str, context: ssl.SSLContext
) -> datetime | None:
    """When it expires. Raises OSError (ssl.SSLError), TooSlowError, BrokenResourceError."""
    secure = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    with trio.fail_after(STEP_TIMEOUT_S):
        try:
            await secure.do_handshake()
        except trio.BrokenResourceError as error:
            raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None
    shown = secure.getpeercert()
    if not shown or "notAfter" not in shown:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)


async def _answer(settings: Settings, context: ssl.SSLContext) -> Finding:
    nonce = secrets.token_hex(16)
    url = settings.public.url + PATH
    form = {"AccountSid": settings.twilio.account_sid, NONCE: nonce}
    token = settings.twilio.auth_token.reveal()
    signed = signature.sign(url, {name: [value] for name, value in form.items()}, token)
    try:
        async with httpx.AsyncClient(
            verify=context, timeout=STEP_TIMEOUT_S, trust_env=False
        ) as http:
            reply = await http.post(url, data=form, headers={"X-Twilio-Signature": signed})
    except httpx.HTTPError as error:
        text = f"HTTP: no answer: {type(error).__name__}"
        return fail(CHECK, text, "is the proxy's upstream public.listen, and does the daemon run?")
    if reply.status_code == 200 and reply.text == nonce:
        return ok(CHECK, f"{settings.public.url} leads to this gateway, signatures fit")
    if reply.status_code == 403:
        return fail(
            CHECK,
            "HTTP: the gateway (or something before it) refuses the signature",
            "the daemon must run with this very public.url and twilio.auth_token",
        )
    return fail(
        CHECK,
        f"HTTP: something else answers, {reply.status_code}",
        "the proxy has to pass every path to public.listen; does the daemon run?",
    )


def _with_expiry(finding: Finding, expires: datetime | None, now: datetime) -> Finding:
    if finding.status != "ok" or expires is None or expires - now > CERTIFICATE_WARN:
        return finding
    text = f"{finding.text}; its certificate expires on {expires:%Y-%m-%d}"
    return warn(CHECK, text, "renew it")


def _why(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {STEP_TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
