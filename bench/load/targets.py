"""What is under load: the daemon as users start it, or a baseline. Each on cores that the generator leaves alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.load import procfs
from bench.load.callers import NUMBER
from bench.load.providers import AGENT_ID
from bench.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
ADMIN_KEY = "bench-admin-key-of-this-run"
AUTH_TOKEN = "bench-auth-token-of-this-run"
ACCOUNT_SID = "AC" + "b" * 32

BASELINES = {
    "relay-epoll": "relay_epoll",
    "picows-uvloop": "picows_uvloop",
    "fastapi-websockets": "fastapi_websockets",
    "trio-websocket": "trio_tasks",
}
DAEMON = "tandem"


class TargetFailed(Exception):
    """The target did not start, or did not become ready."""


class Target:
    """A process with its children, its door, and its log in `folder`."""

    def __init__(
        self, name: str, command: Sequence[str], place: Place, folder: Path, **env: str
    ) -> None:
        self.name = name
        self.door: dict[str, Any] = {}
        self._log_path = folder / f"{name}.log"
        with self._log_path.open("wb") as log, place:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        place.prefer(self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def roles(self) -> dict[str, list[int]]:
        """Process ids by what they do: `worker` carries audio, `control` does everything else."""
        pids = procfs.tree(self.pid)
        workers = [pid for pid in pids if "gateway.worker" in procfs.command(pid)]
        if not workers:
            return {"worker": pids, "control": []}
        return {"worker": workers, "control": [pid for pid in pids if pid not in workers]}

    def wait_listening(self, port: int) -> None:
        """Raises TargetFailed."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                raise TargetFailed(f"{self.name} exited: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                return
            except OSError:
                time.sleep(0.05)
        raise TargetFailed(f"{self.name} does not listen: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return self._log_path.read_text(errors="replace")[-600:].strip()

    def stop(self) -> int:
        """SIGTERM, then SIGKILL for what is left of the tree; the exit code."""
        pids = procfs.tree(self.pid)
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for pid in pids[1:]:
            if str(ROOT) in procfs.command(pid) or "gateway.worker" in procfs.command(pid):
                _kill(pid)
        return code


class Daemon(Target):
    """`python -m control serve`, with one agent provisioned over its own API."""

    def __init__(
        self,
        folder: Path,
        place: Place,
        *,
        provider_url: str,
        calls_max: int,
        workers: int,
        media: Mapping[str, object],
        certificate: str,
    ) -> None:
        public, control = free_port(), free_port()
        config = folder / "config.toml"
        # What a worker can bear is the question: it shall not be spared.
        spared = {"admit_lateness_ms": 0, "admit_load_percent": 0}
        media = {"workers": workers, "max_calls_per_worker": calls_max} | spared | dict(media)
        config.write_text(_config(folder, public, control, provider_url, media))
        command = [sys.executable, "-m", "control", "serve", "--config", str(config)]
        env = {"SSL_CERT_FILE": certificate} if certificate else {}
        super().__init__(DAEMON, command, place, folder, **env)
        self._api = f"http://127.0.0.1:{control}"
        url = f"http://127.0.0.1:{public}"
        self.door = {
            "host": "127.0.0.1",
            "port": public,
            "named": {"url": url, "account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN},
        }
        try:
            self.wait_listening(public)
            self.wait_listening(control)
            self._provision()
        except BaseException:
            self.stop()
            raise

    def _provision(self) -> None:
        agent = self.api(
            "POST",
            "/v2/agents",
            {"name": "bench", "number": {"e164": NUMBER}, "elevenlabs_agent_id": AGENT_ID},
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            found = self.api("GET", f"/v2/agents/{agent['id']}")
            if found["status"] in ("live", "degraded"):
                return
            if found["status"] == "failed":
                raise TargetFailed(f"agent: {found['provisioning']}")
            time.sleep(0.05)
        raise TargetFailed("the agent does not become live")

    def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request to the control API; the decoded answer. Raises TargetFailed."""
        request = urllib.request.Request(
            self._api + path,
            json.dumps(body).encode() if body is not None else None,
            {
                "Authorization": f"Bearer {ADMIN_KEY}",
                "Content-Type": "application/json",
                "Idempotency-Key": os.urandom(8).hex(),
            },
            method=method,
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=20
            ) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise TargetFailed(f"{method} {path}: {error.code} {error.read()[:300]!r}") from error
        except OSError as error:
            raise TargetFailed(f"{method} {path}: {error}") from error

    def records(self) -> list[dict[str, Any]]:
        """Every call's record."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.api("GET", f"/v2/calls?limit=100{cursor}")
            found += [self.api("GET", f"/v2/calls/{item['id']}") for item in page["items"]]
            if not page["next_cursor"]:
                return found
            cursor = f"&cursor={page['next_cursor']}"


def baseline(name: str, folder: Path, place: Place, agent_url: str, certificate: str) -> Target:
    """One of BASELINES, listening."""
    port = free_port()
    env = {"LISTEN_PORT": str(port), "AGENT_URL": agent_url}
    if certificate:
        env["SSL_CERT_FILE"] = certificate
    command = [sys.executable, "-m", f"bench.baselines.{BASELINES[name]}"]
    target = Target(name, command, place, folder, **env)
    target.door = {
        "host": "127.0.0.1",
        "port": port,
        "named": {"url": f"ws://127.0.0.1:{port}"},
    }
    try:
        target.wait_listening(port)
    except BaseException:
        target.stop()
        raise
    return target


def _config(
    folder: Path, public: int, control: int, provider_url: str, media: Mapping[str, object]
) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in media.items()]
    return f"""[public]
listen = "127.0.0.1:{public}"
url = "http://127.0.0.1:{public}"
[control]
listen = "127.0.0.1:{control}"
admin_key = "{ADMIN_KEY}"
[twilio]
account_sid = "{ACCOUNT_SID}"
auth_token = "{AUTH_TOKEN}"
api_base_url = "{provider_url}"
[elevenlabs]
api_key = "bench"
base_url = "{provider_url}"
[store]
url = "sqlite:///{folder}/bench.db"
[log]
level = "warning"
[media]
drain_timeout_s = 2.0
{chr(10).join(lines)}
"""


class Place:
    """What is started inside inherits these cores and this niceness."""

    def __init__(self, cores: set[int], priority: int) -> None:
        self._cores = cores
        self._priority = priority

    def __enter__(self) -> None:
        self._before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cores)

    def __exit__(self, *exception: object) -> None:
        os.sched_setaffinity(0, self._before)

    def prefer(self, pid: int) -> None:
        """Give a process just started (in a session of its own) and what it will start its niceness.

        Where the scheduler groups by session, niceness counts within a session only; the group has its own.
        """
        if self._priority:
            os.setpriority(os.PRIO_PROCESS, pid, self._priority)
            group = Path(f"/proc/{pid}/autogroup")
            if group.exists():
                group.write_text(str(self._priority))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
