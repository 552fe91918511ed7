"""The Debian package, unpacked beside the system: its files, its scripts, and its daemon started as systemd does it.

`make package-check` says which one by TANDEM_PACKAGE; without it there is none to try.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from bench.ports import free_port

PACKAGE = os.environ.get("TANDEM_PACKAGE", "")
pytestmark = pytest.mark.skipif(not PACKAGE, reason="TANDEM_PACKAGE names no package")

DEADLINE_S = 120.0
CONFIG = """
[public]
listen = "127.0.0.1:{port}"
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
[store]
url = "sqlite:///tandem.db"
"""
CREDENTIALS = struct.Struct("iii")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The package's files, as they would lie below `/`."""
    folder = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg-deb", "--extract", PACKAGE, str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Its control files."""
    folder = tmp_path_factory.mktemp("scripts") / "DEBIAN"
    subprocess.run(["dpkg-deb", "--control", PACKAGE, str(folder)], check=True)
    return folder


def units(root):
    return sorted((root / "usr/lib/systemd/system").iterdir())


def test_everything_that_the_units_name_is_installed(root):
    """Programs, configuration, credentials' folder; and both units come with their user."""
    assert [unit.name for unit in units(root)] == ["tandem.service", "tandem@.service"]
    for unit in units(root):
        for line in unit.read_text().splitlines():
            if match := re.match(r"Exec\w+=\+?(/\S+)", line):
                program = root / match[1].removeprefix("/").replace("@%i", "")
                assert os.access(program, os.X_OK), line
            if match := re.match(r"EnvironmentFile=-?(/\S+)", line):
                for name in ("blue", "green"):
                    assert (root / match[1].removeprefix("/").replace("%i", name)).is_file(), line
    assert (root / "etc/tandem/credentials").stat().st_mode & 0o777 == 0o700
    assert (root / "usr/lib/sysusers.d/tandem.conf").read_text().count("u tandem ") == 1
    assert os.readlink(root / "usr/bin/tandem") == "../lib/tandem/tandem"


def test_configuration_files_are_the_operators(root, scripts):
    """An upgrade asks before it replaces one."""
    listed = set((scripts / "conffiles").read_text().split())
    installed = {f"/{path.relative_to(root)}" for path in (root / "etc").rglob("*")}
    assert listed == {path for path in installed if (root / path.removeprefix("/")).is_file()}


def test_packaged_configuration_is_valid(root):
    """As it comes, with the sample secrets in it."""
    checked = subprocess.run(
        [root / "usr/bin/tandem", "check-config", "--config", root / "etc/tandem/config.toml"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


class Service:
    """The packaged daemon with systemd's end of NOTIFY_SOCKET."""

    def __init__(self, root, folder):
        self._folder = folder
        self._program = root / "usr/lib/tandem/tandem"
        (folder / "config.toml").write_text(CONFIG.format(port=free_port(), control=free_port()))
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notify.settimeout(DEADLINE_S)
        self.log = folder / "log"

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._program, "serve", "--config", "config.toml"],
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(self._folder / "notify")},
                stdout=log,
                stderr=log,
            )

    def told(self):
        """The next message, and who sent it."""
        data, found, _, _ = self._notify.recvmsg(1000, socket.CMSG_SPACE(CREDENTIALS.size))
        ((_, _, raw),) = found
        return data, CREDENTIALS.unpack(raw)[0]

    def events(self, name):
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def close(self):
        self.process.kill()
        self.process.wait()
        self._notify.close()


@pytest.fixture
def service(root, tmp_path):
    made = Service(root, tmp_path)
    made.start()
    yield made
    made.close()


def test_ready_comes_from_the_process_that_systemd_has_started(service):
    """With NotifyAccess=main any other's word is ignored: the unit would never become ready."""
    data, pid = service.told()
    assert data.startswith(b"READY=1")
    assert pid == service.process.pid
    service.process.send_signal(signal.SIGTERM)
    data, pid = service.told()
    assert data.startswith(b"STOPPING=1")
    assert pid == service.process.pid
    assert service.process.wait(DEADLINE_S) == 0


def test_workers_outlive_a_killed_control_process_and_its_files_stay(service):
    """The next control process finds the worker, which has all of the program it runs."""
    service.told()
    ((worker),) = [line["pid"] for line in service.events("worker_ready")]
    service.process.send_signal(signal.SIGKILL)
    service.process.wait(DEADLINE_S)
    assert Path(f"/proc/{worker}/exe").exists()
    files = Path(f"/proc/{worker}/maps").read_text()
    assert "(deleted)" not in "".join(line for line in files.splitlines() if "tandem" in line)
    service.start()
    service.told()
    assert [line["pid"] for line in service.events("worker_returned")] == [worker]
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(DEADLINE_S) == 0
    give_up = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{worker}/exe").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}/exe").exists()


def test_program_of_an_instance_does_not_change_with_the_package(root, tmp_path):
    """Hard links to what is installed when it starts; a new version has files of its own."""
    program = tmp_path / "tandem"
    shutil.copytree(root / "usr/lib/tandem", program, symlinks=True)
    environment = {**os.environ, "TANDEM_PROGRAM": str(program)}
    prepare = [str(root / "usr/lib/tandem/instance"), "blue"]
    subprocess.run(prepare, env=environment, check=True)
    ours = tmp_path / "tandem@blue" / "tandem"
    assert ours.samefile(program / "tandem")
    new = tmp_path / "new"
    new.write_text("another version")
    new.rename(program / "tandem")  # as dpkg does
    assert ours.stat().st_size > 1000
    subprocess.run(prepare, env=environment, check=True)
    assert ours.read_text() == "another version"
    assert subprocess.run([*prepare[:1], "../etc"], env=environment, check=False).returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="dpkg installs as root only")
def test_installed_and_purged_in_a_folder_of_its_own(tmp_path):
    """dpkg runs the scripts for that folder: the user is made, and of the package nothing is left at the end."""
    into = tmp_path / "system"
    for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "etc"):
        (into / folder).mkdir(parents=True)
    for name in ("status", "available"):
        (into / "var/lib/dpkg" / name).touch()
    dpkg = ["dpkg", f"--root={into}", "--force-script-chrootless", "--force-depends"]
    subprocess.run([*dpkg, "--install", PACKAGE], check=True, capture_output=True)
    assert "tandem:" in (into / "etc/passwd").read_text()
    (into / "usr/lib/tandem@blue").mkdir()
    (into / "var/lib/tandem").mkdir(parents=True)
    subprocess.run([*dpkg, "--purge", "tandem"], check=True, capture_output=True)
    assert not (into / "etc/tandem").exists()
    assert not list((into / "usr/lib").glob("tandem*"))
    assert (into / "var/lib/tandem").exists()
