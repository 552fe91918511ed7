"""The HTTP below Twilio's client: one pooled session, deadlines on every socket, any origin."""

from __future__ import annotations

from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from twilio.http import HttpClient
from twilio.http.response import Response

DEFAULT_ORIGIN = "https://api.twilio.com"
THREADS_MAX = 64
"""Requests at once of all accounts, and connections kept."""
CONNECT_TIMEOUT_S = 5.0
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Transport(HttpClient):  # type: ignore[misc]
    """Replaces the client's own transport.

    That one has no timeout, logs every parameter (telephone numbers among them) and
    knows no other origin than Twilio's.
    """

    def __init__(self, api_base_url: str, read_timeout_s: float) -> None:
        self.is_async = False
        self.timeouts_s = (CONNECT_TIMEOUT_S, read_timeout_s)
        self.session = requests.Session()
        adapter = HTTPAdapter(pool_connections=8, pool_maxsize=THREADS_MAX, max_retries=0)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)
        base = api_base_url.rstrip("/")
        self.origin = None if base == DEFAULT_ORIGIN else base
        if self.origin and urlsplit(self.origin).hostname in _LOOPBACK:
            self.session.trust_env = False  # no proxy on the way to this machine

    def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """One HTTP request. Raises `requests` exceptions."""
        is_json = (headers or {}).get("Content-Type") == "application/json"
        response = self.session.request(
            method.upper(),
            self.at_origin(uri),
            params=params,  # type: ignore[arg-type]
            data=None if is_json else data,
            json=data if is_json else None,
            headers=headers,
            auth=auth,
            timeout=self.timeouts_s,
            allow_redirects=allow_redirects,
        )
        return Response(response.status_code, response.text, response.headers)

    def at_origin(self, uri: str) -> str:
        """The same path at the configured origin; Twilio's own hosts when none is configured."""
        if self.origin is None:
            return uri
        parts = urlsplit(uri)
        return self.origin + parts.path + ("?" + parts.query if parts.query else "")
