"""A throw-away certificate for loopback, made by the `openssl` command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path


def throwaway_tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server context for `localhost` and 127.0.0.1, and the certificate file a client must trust.

    RuntimeError when there is no `openssl` command on this machine.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise RuntimeError("no openssl command to make a certificate with")
    certificate, key = folder / "sim-cert.pem", folder / "sim-key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    # Python from 3.13 on verifies strictly: a root must be marked as one and say what it may sign.
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
