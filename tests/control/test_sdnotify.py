"""What systemd is told."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from control.sdnotify import Notifier


@pytest.fixture
def systemd(tmp_path):
    """A datagram socket in systemd's place, and its path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        path = str(tmp_path / "notify")
        sock.bind(path)
        yield sock, path


def test_ready_with_a_status_sends_one_datagram(systemd):
    """sd_notify(3): lines of one datagram."""
    sock, path = systemd
    assert Notifier({"NOTIFY_SOCKET": path}).ready("serving\non 8443")
    assert sock.recv(1000) == b"READY=1\nSTATUS=serving on 8443"


def test_stopping_and_status_send_their_words(systemd):
    """A status alone has no state line."""
    sock, path = systemd
    notifier = Notifier({"NOTIFY_SOCKET": path})
    assert notifier.stopping()
    assert notifier.status("12 calls")
    assert [sock.recv(1000), sock.recv(1000)] == [b"STOPPING=1", b"STATUS=12 calls"]


def test_abstract_socket_is_reached():
    """A name that begins with @ lives outside the file system."""
    name = f"tandem-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        assert Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert sock.recv(1000) == b"READY=1"


@pytest.mark.parametrize("path", ["", "/no/such/socket"])
def test_without_systemd_nothing_is_sent_and_nothing_fails(path):
    """The daemon also runs by hand."""
    assert not Notifier({"NOTIFY_SOCKET": path} if path else {}).ready()


def test_full_queue_of_systemd_does_not_block(systemd):
    """The loop must not wait for a supervisor."""
    _, path = systemd
    notifier = Notifier({"NOTIFY_SOCKET": path})
    results = [notifier.alive() for _ in range(5_000)]
    assert results[0]
    assert not results[-1]


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval_is_systemds_unless_it_is_for_another_process(environ, interval_s):
    """sd_watchdog_enabled(3)."""
    assert Notifier(environ).watchdog_interval_s == interval_s


async def test_run_watchdog_sends_two_signs_of_life_an_interval(systemd, autojump_clock):
    """Half of the interval is systemd's own advice."""
    sock, path = systemd
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000000"})
    with trio.move_on_after(35):
        await notifier.run_watchdog()
    received = []
    with pytest.raises(BlockingIOError):
        while True:
            received.append(sock.recv(1000))
    assert received == [b"WATCHDOG=1"] * 4


async def test_run_watchdog_withholds_signs_of_life_for_others_that_hang(systemd, autojump_clock):
    """The loop of control turns, that of a worker does not: systemd is to notice."""
    sock, path = systemd
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000000"})
    answers = iter([True, False, False, True])
    with trio.move_on_after(35):
        await notifier.run_watchdog(lambda: next(answers))
    received = []
    with pytest.raises(BlockingIOError):
        while True:
            received.append(sock.recv(1000))
    assert received == [b"WATCHDOG=1"] * 2


async def test_run_watchdog_when_none_is_wanted_returns():
    """No task without work."""
    with trio.fail_after(1):
        await Notifier({}).run_watchdog()
