"""`tandem doctor`: every check can say yes and can say no."""

from __future__ import annotations

import json
import ssl
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import trio

from bench.rig import open_rig
from bench.sim_elevenlabs import ElevenLabsSim
from bench.sim_elevenlabs.tls import throwaway_tls
from bench.sim_twilio import TwilioSim
from control.clock import Clock
from control.config import load
from control.doctor import host, providers, reach, records, service
from control.doctor.records import OwnNumber
from control.numbers import wiring
from control.store import Store, StoreIncompatible
from control.twilio import numbers as twilio_numbers
from control.twilio.rest import TwilioRest
from control.urls import PublicUrls

ACCOUNT = "AC" + "0" * 32
TOKEN = "token-0123456789"
NUMBER = "+14155550199"
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def configured(folder, **sections):
    """Settings as from a file."""
    given = {
        "public": {"url": "https://voice.example.com"},
        "control": {"admin_key": "an-admin-key-long-enough", "listen": "127.0.0.1:1"},
        "twilio": {"account_sid": ACCOUNT, "auth_token": TOKEN},
        "elevenlabs": {"api_key": "eleven-key"},
        "store": {"url": f"sqlite:///{folder / 'tandem.db'}"},
        "media": {"recording_dir": str(folder / "recordings")},
        "policy": {},
    }
    for section, keys in sections.items():
        given[section] |= keys
    lines = []
    for section, keys in given.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    path = folder / "config.toml"
    path.write_text("\n".join(lines))
    return load(path, {})


@asynccontextmanager
async def both_providers(folder, **sections):
    """Simulators with one number, and settings that lead to them."""
    twilio = TwilioSim(ACCOUNT, TOKEN, (NUMBER,))
    eleven = ElevenLabsSim("eleven-key", {})
    async with trio.open_nursery() as nursery:
        given = {
            "twilio": {"api_base_url": await nursery.start(twilio.run)},
            "elevenlabs": {"base_url": await nursery.start(eleven.run)},
        }
        for section, keys in sections.items():
            given[section] = given.get(section, {}) | keys
        yield configured(folder, **given)
        nursery.cancel_scope.cancel()


def named(findings, check):
    return next(one for one in findings if one.check == check)


async def test_doctor_of_a_healthy_daemon_fails_nothing(tmp_path):
    """A real daemon between the simulators: the public URL answers with a signature of ours."""
    async with open_rig(tmp_path, agents={}) as rig:
        settings = load(rig.daemon.config_path, {})
        found = [one async for one in service.examine(settings, Clock())]
    assert [one.line() for one in found if one.status == "fail"] == []
    assert named(found, "public url").status == "ok"
    assert named(found, "daemon").status == "ok"
    assert named(found, "store").status == "ok"
    assert named(found, "clock").status == "ok"


async def test_public_url_with_another_token_than_the_daemon_is_told_from_no_answer(tmp_path):
    """403: it is a gateway, the signature does not fit."""
    async with open_rig(tmp_path, agents={}) as rig:
        path = rig.daemon.config_path
        settings = load(path, {"TANDEM_TWILIO_AUTH_TOKEN": "another"})
        found = await reach.public_url(settings, NOW)
    assert found.status == "fail"
    assert "signature" in found.text


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ({"twilio": {"auth_token": "wrong"}}, "twilio credentials"),
        ({"twilio": {"account_sid": "AC" + "9" * 32}}, "twilio credentials"),
        ({"elevenlabs": {"api_key": "wrong"}}, "elevenlabs credentials"),
    ],
)
async def test_credentials_that_are_wrong_fail_and_name_their_keys(tmp_path, wrong, check):
    """Asked with a read."""
    async with both_providers(tmp_path, **wrong) as settings:
        offsets = providers.Offsets(Clock())
        found = [
            *await providers.twilio(settings, (), offsets),
            await providers.elevenlabs(settings, offsets),
        ]
    bad = named(found, check)
    assert bad.status == "fail"
    assert check.split()[0] in bad.advice
    assert [one for one in found if one.status == "fail"] == [bad]


async def test_providers_that_are_down_fail_without_an_exception(tmp_path):
    """Nothing listens there."""
    down = "http://127.0.0.1:1"
    settings = configured(tmp_path, twilio={"api_base_url": down}, elevenlabs={"base_url": down})
    offsets = providers.Offsets(Clock())
    assert (await providers.twilio(settings, (), offsets))[0].status == "fail"
    assert (await providers.elevenlabs(settings, offsets)).status == "fail"
    assert offsets.finding().status == "warn"


async def test_numbers_wired_elsewhere_fail_and_are_not_mended(tmp_path):
    """Twice the same answer: looking changes nothing. Wired, it is fine."""
    own = (OwnNumber(NUMBER, None),)
    async with both_providers(tmp_path) as settings:
        for _ in range(2):
            found = await providers.twilio(settings, own, providers.Offsets(Clock()))
            wired = named(found, "webhooks of numbers")
            assert wired.status == "fail"
            assert "voice_url" in wired.text
            assert NUMBER not in wired.line()
        rest = TwilioRest(settings.twilio)
        (owned,) = await twilio_numbers.all_owned(rest)
        urls = PublicUrls(settings.public.url, settings.public.media_url)
        await twilio_numbers.wire(rest, owned.sid, wiring.wanted(urls))
        rest.close()
        found = await providers.twilio(settings, own, providers.Offsets(Clock()))
        assert named(found, "webhooks of numbers").status == "ok"
        gone = (*own, OwnNumber("+14155550100", None))
        found = await providers.twilio(settings, gone, providers.Offsets(Clock()))
        assert "is not in the account" in named(found, "webhooks of numbers").text


@pytest.mark.parametrize(("ahead_s", "status"), [(0, "ok"), (5, "warn"), (-90, "fail")])
def test_clock_against_a_date_header(ahead_s, status):
    """A provider's answer carries the time."""

    class Ahead:
        def now(self):
            return NOW + timedelta(seconds=ahead_s + 0.5)

    offsets = providers.Offsets(Ahead())
    offsets.date("Twilio", "Wed, 25 Nov 2026 00:00:00 GMT")
    offsets.date("ElevenLabs", "not a date")
    assert offsets.finding().status == status


async def test_public_url_of_a_name_that_does_not_exist_says_dns(tmp_path):
    """`.invalid` never exists."""
    settings = configured(tmp_path, public={"url": "https://voice.invalid"})
    found = await reach.public_url(settings, NOW)
    assert found.status == "fail"
    assert found.text.startswith("DNS:")


async def test_public_url_that_nobody_listens_at_says_tcp(tmp_path):
    """Refused."""
    settings = configured(tmp_path, public={"url": "https://127.0.0.1:1"})
    assert (await reach.public_url(settings, NOW)).text.startswith("TCP:")


async def test_public_url_with_a_certificate_nobody_trusts_says_tls(tmp_path):
    """A self-signed one; once it is trusted the next step speaks: this server is no gateway."""
    server, certificate = throwaway_tls(tmp_path)
    trusted = ssl.create_default_context(cafile=str(certificate))
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, not_found, 0, server, host="127.0.0.1")
        listeners = await nursery.start(serve)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        settings = configured(tmp_path, public={"url": f"https://localhost:{port}"})
        assert (await reach.public_url(settings, NOW)).text.startswith("TLS:")
        found = await reach.public_url(settings, NOW, trusted)
        assert found.text == "HTTP: something else answers, 404"
        nursery.cancel_scope.cancel()


async def not_found(stream):
    with trio.move_on_after(5), suppress(trio.BrokenResourceError):
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def test_folder_that_cannot_be_written_fails(tmp_path, monkeypatch):
    """Somebody else's, or a disk that is mounted read-only."""

    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host.tempfile, "NamedTemporaryFile", refused)
    found = list(host.folders(configured(tmp_path)))
    assert [one.status for one in found] == ["fail", "fail"]


@pytest.mark.parametrize(("free", "status"), [(10**12, "ok"), (5 * 10**8, "warn"), (10**6, "fail")])
def test_disk_with_little_room_is_told(tmp_path, monkeypatch, free, status):
    """By what is free."""
    monkeypatch.setattr(host.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free})())
    assert {one.status for one in host.folders(configured(tmp_path))} == {status}


def test_zone_data_of_former_years_warns():
    """Against the version that is installed."""
    assert host.zones(NOW).status == "ok"
    assert host.zones(NOW + timedelta(days=800)).status == "warn"


def test_compiled_lane_that_was_not_built_warns():
    """Everything works without."""
    assert host.compiled_lane("gateway._never").status == "warn"


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ({"LoadState": "loaded", "ActiveState": "active", "WatchdogUSec": "10s"}, "ok"),
        ({"LoadState": "loaded", "ActiveState": "active", "WatchdogUSec": "0"}, "warn"),
        ({"LoadState": "loaded", "ActiveState": "failed", "WatchdogUSec": "10s"}, "warn"),
        ({"LoadState": "not-found"}, "warn"),
    ],
)
def test_systemd_unit_is_judged_by_what_systemctl_shows(shown, status):
    """The watchdog is what restarts a daemon that hangs."""
    assert host.judged(shown, "").status == status


def test_store_that_is_not_there_is_not_made_by_looking(tmp_path):
    """A doctor changes nothing."""
    path = tmp_path / "tandem.db"
    assert records.look(f"sqlite:///{path}").finding.status == "warn"
    assert not path.exists()


@pytest.mark.sqlite
def test_store_of_a_later_version_fails(tmp_path):
    """As the daemon would."""
    url = f"sqlite:///{tmp_path / 'tandem.db'}"
    store = Store.open(url)
    assert records.look(url).finding.status == "ok"
    store._write_now(
        lambda conn: conn.exec_driver_sql("UPDATE alembic_version SET version_num='9999'")
    )
    store.close()
    assert records.look(url).finding.status == "fail"
    with pytest.raises(StoreIncompatible):
        Store.open(url)


def test_store_that_is_no_database_fails(tmp_path):
    """Garbage in the file."""
    (tmp_path / "tandem.db").write_bytes(b"no database" * 1000)
    assert records.look(f"sqlite:///{tmp_path / 'tandem.db'}").finding.status == "fail"
