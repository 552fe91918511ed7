"""`X-Twilio-Signature`, computed as Twilio does: own code, neither the SDK's nor the product's.

Source: Twilio, "Webhooks security". Pure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

HEADER = "X-Twilio-Signature"


def signature(auth_token: str, url: str, params: Iterable[tuple[str, str]] = ()) -> str:
    """Base64 HMAC-SHA1 of the URL followed by every parameter, sorted by name, name and value joined.

    Blank values count. A repeated name is appended once per distinct value, in order.
    """
    text = url + "".join(name + value for name, value in sorted(set(params)))
    digest = hmac.new(auth_token.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def url_as_signed(url: str) -> str:
    """The form of a webhook URL that is signed: no fragment, no credentials, no port on HTTPS.

    Plain HTTP keeps its port (Twilio, "Webhooks security": voice over HTTPS drops it).
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "https" and parts.port is not None:
        host = host.rpartition(":")[0]
    return urlunsplit((parts.scheme, host, parts.path, parts.query, ""))


def stream_url_as_signed(url: str, *, trailing_slash: bool = False) -> str:
    """The form of a `<Stream>` URL that is signed: as written, optionally with a slash appended.

    The documentation tells servers to try both, so a simulator must be able to produce both.
    """
    return url + "/" if trailing_slash and not url.endswith("/") else url
