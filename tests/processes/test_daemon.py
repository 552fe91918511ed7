"""The daemon as a process: what it says when it cannot start, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
CREDENTIALS = struct.Struct("iii")
"""Process, user and group of a sender: unix(7), SCM_CREDENTIALS."""
CONFIG = """
[public]
listen = "127.0.0.1:{public}"
url = "https://voice.example.com"
[control]
listen = "127.0.0.1:{control}"
admin_key = "key-0123456789abcdef"
[twilio]
account_sid = "AC00000000000000000000000000000001"
auth_token = "token-0123456789"
api_base_url = "http://127.0.0.1:9"
[elevenlabs]
api_key = "xi-0123456789"
base_url = "http://127.0.0.1:9"
[media]
workers = 1
drain_timeout_s = 5.0
[store]
url = "sqlite:///{store}"
"""


def _start(tmp_path, public=0, control=0, notify=None):
    config = tmp_path / "config.toml"
    store = tmp_path / "tandem.db"
    config.write_text(CONFIG.format(public=public, control=control, store=store))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("NOTIFY_SOCKET", None)
    if notify is not None:
        environment["NOTIFY_SOCKET"] = str(notify)
    return subprocess.Popen(
        [sys.executable, "-m", "control", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )


@pytest.mark.parametrize("which", ["public", "control"])
def test_port_in_use_exits_1_and_names_the_key(tmp_path, which):
    """Nothing is started, and the message says which key to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with _start(tmp_path, **{which: port}) as process:
            _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert f"{which}.listen: cannot listen on 127.0.0.1:{port}" in errors
    assert "in use" in errors
    assert "worker" not in errors


def test_store_unusable_exits_1_and_names_the_key(tmp_path):
    """A folder that does not exist."""
    missing = tmp_path / "missing"
    (tmp_path / "tandem.db").symlink_to(missing / "tandem.db")
    with _start(tmp_path) as process:
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "store.url" in errors


def test_sigterm_after_ready_drains_and_exits_0(tmp_path):
    """READY is told when everything is up, by the very process; SIGTERM stops in order, workers included."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        notify.settimeout(DEADLINE_S)
        with _start(tmp_path, notify=path) as process:
            data, found, _, _ = notify.recvmsg(1000, socket.CMSG_SPACE(CREDENTIALS.size))
            assert data.startswith(b"READY=1")
            assert [CREDENTIALS.unpack(raw)[0] for _, _, raw in found] == [process.pid]
            children = _children(process.pid)
            assert len(children) == 1
            process.send_signal(signal.SIGTERM)
            assert notify.recv(1000).startswith(b"STOPPING=1")
            _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in errors.splitlines() if line.startswith("{")]
    assert events[-1] == "stopped"
    assert "ready" in events
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def _children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]
