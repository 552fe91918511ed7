"""Secrets at rest: sealed before they go into the store, opened when they are used.

Fernet (AES-128-CBC with HMAC-SHA256) under the first key of `store.encryption_key`; further keys there only
open what was sealed before, and `control.store.sealed` seals it anew at the next start. What is sealed says
what it is for, so that a sealed value copied into another row cannot be opened there.

Source: cryptography's documentation of `Fernet` and `MultiFernet`; the Fernet specification.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import make_url

from control import log

KEY_HINT = (
    "32 random bytes in URL-safe base64, as `openssl rand -base64 32 | tr '+/' '-_'` prints them"
)
KEY_FILE_SUFFIX = ".key"


class VaultError(Exception):
    """The vault cannot be opened; the text names the key of the configuration."""


class SealBroken(Exception):
    """A sealed secret cannot be opened: another key, another purpose, or it was changed."""


class Vault:
    """Seals and opens. `keys`: the first one seals, all of them open."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("at least one key")
        fernets = [Fernet(key.encode()) for key in keys]
        self._newest = fernets[0]
        self._all = MultiFernet(fernets)

    def seal(self, purpose: str, secret: str) -> str:
        """`secret`, for the store; `open` needs the same `purpose`."""
        return self._newest.encrypt(json.dumps([purpose, secret]).encode()).decode()

    def open(self, purpose: str, sealed: str) -> str:
        """The secret. Raises SealBroken."""
        try:
            found = json.loads(self._all.decrypt(sealed.encode()))
        except (InvalidToken, ValueError) as error:
            raise SealBroken(f"{purpose}: sealed with a key that is not known") from error
        if found[0] != purpose:
            raise SealBroken(f"{purpose}: sealed for something else")
        return str(found[1])

    def resealed(self, sealed: str) -> str | None:
        """The same secret under the newest key; None when it is already. Raises SealBroken."""
        try:
            self._newest.decrypt(sealed.encode())
        except InvalidToken:
            pass
        else:
            return None
        try:
            return self._all.rotate(sealed.encode()).decode()
        except InvalidToken as error:
            raise SealBroken("sealed with a key that is not known") from error


def parse_keys(text: str) -> tuple[str, ...]:
    """The keys of a configuration value, separated by commas or white space. Raises ValueError."""
    keys = tuple(text.replace(",", " ").split())
    if not keys:
        raise ValueError(f"is empty; a key is {KEY_HINT}")
    for number, key in enumerate(keys, 1):
        try:
            Fernet(key.encode())
        except ValueError:
            which = f"key {number} of {len(keys)}" if len(keys) > 1 else "it"
            raise ValueError(f"{which} is none: a key is {KEY_HINT}") from None
    return keys


def open_vault(store_url: str, configured: str | None) -> Vault:
    """The vault of a configuration. Blocks: call it at start. Raises VaultError.

    Without a configured key SQLite gets one of its own, in a file beside the database that only its owner
    reads: better than no seal when the database is copied alone, and said in the log.
    """
    if configured is not None:
        return Vault(parse_keys(configured))
    url = make_url(store_url)
    if url.get_backend_name() != "sqlite":
        raise VaultError(
            f"store.encryption_key: is needed with {url.get_backend_name()}: {KEY_HINT}"
        )
    if not url.database or url.database == ":memory:":
        return Vault([Fernet.generate_key().decode()])
    return Vault(_key_file(Path(url.database + KEY_FILE_SUFFIX)))


def _key_file(path: Path) -> tuple[str, ...]:
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    except FileExistsError:
        return _read_key_file(path)
    except OSError as error:
        raise VaultError(
            f"store.encryption_key: is not set, and {path} cannot be written: {error.strerror}"
        ) from error
    key = Fernet.generate_key()
    with os.fdopen(made, "wb") as file:
        file.write(key + b"\n")
        file.flush()
        os.fsync(file.fileno())
    log.event("encryption_key_made", level="warning", path=str(path))
    return (key.decode(),)


def _read_key_file(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            log.event("encryption_key_exposed", level="warning", path=str(path))
        return parse_keys(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise VaultError(f"store.encryption_key: is not set, and {path}: {why}") from error
