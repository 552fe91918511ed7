"""Ports that are found for servers: no two processes are told the same one."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench import ports

TAKES = "import sys; from bench.ports import free_port; print(*[free_port() for _ in range(150)], flush=True); sys.stdin.read()"


def test_processes_that_live_at_the_same_time_are_given_different_ports():
    seekers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    given = [[int(port) for port in seeker.stdout.readline().split()] for seeker in seekers]
    for seeker in seekers:
        seeker.communicate(timeout=60)
    assert [len(ports_of_one) for ports_of_one in given] == [150] * 4
    together = [port for ports_of_one in given for port in ports_of_one]
    assert len(set(together)) == 600  # by chance alone about fifteen of them would be double


def test_port_that_was_given_is_not_given_again(monkeypatch):
    given = ports.free_port()
    monkeypatch.setattr(ports, "PORTS", range(given, given + 1))
    with pytest.raises(OSError, match="no free port"):
        ports.free_port()


def test_port_that_another_program_listens_on_is_not_given(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        monkeypatch.setattr(ports, "PORTS", range(number, number + 1))
        monkeypatch.setattr(ports, "LOCAL_RANGE", Path("/nonexistent"))
        with pytest.raises(OSError, match="no free port"):
            ports.free_port()


def test_port_of_the_kernels_own_range_is_not_given(monkeypatch, tmp_path):
    given_away = tmp_path / "range"
    given_away.write_text(f"{ports.PORTS.start}\t{ports.PORTS.stop - 201}\n")
    monkeypatch.setattr(ports, "LOCAL_RANGE", given_away)
    monkeypatch.setattr(ports, "TRIES", 1_000_000)
    assert ports.free_port() >= ports.PORTS.stop - 200
