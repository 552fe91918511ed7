"""A systemd of one's own in namespaces: nothing of this machine is changed, and all of it ends with `Machine.close`.

It wants root, dpkg, systemd, and a kernel that permits namespaces, overlays and a control group of version 2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import trio

BOOT_S = 90.0
CLOSE_S = 10.0
COMMAND_S = 150.0
"""The longest that a command in there may take: systemd itself ends a `systemctl stop` after the unit's 120 s."""
CHECK_S = 20.0
NETWORK = ("unshare", "--mount", "--propagation", "private", "--net")
"""For whoever makes a Machine: the scratch folder and the addresses are seen by nobody else."""
_PROCESSES = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
_INSIDE = (*_PROCESSES, "--cgroup", "--ipc", "--uts")
_BOOT = Path(__file__).with_name("systemd_boot.sh")


class CannotRun(Exception):
    """This machine does not permit it; the text says what."""


class TooLate(Exception):
    """A command does not end; the text says which, and what it had said by then."""


def check() -> None:
    """Raises CannotRun for what can be seen beforehand."""
    if os.geteuid() != 0:
        raise CannotRun("it wants root")
    for tool in ("unshare", "nsenter", "pivot_root", "dpkg", "/lib/systemd/systemd"):
        if shutil.which(tool) is None:
            raise CannotRun(f"there is no {tool}")
    try:
        tried = finished([*_INSIDE, "--net", "true"], CHECK_S)
    except TooLate as late:
        raise CannotRun(str(late)) from late
    if tried.returncode:
        raise CannotRun(f"namespaces are not permitted: {tried.stderr.strip()}")


def finished(
    command: Sequence[str], within_s: float = COMMAND_S
) -> subprocess.CompletedProcess[str]:
    """A command, run to its end, or killed. Raises TooLate."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=within_s
        )
    except subprocess.TimeoutExpired as late:
        said = b"".join(part for part in (late.stdout, late.stderr) if isinstance(part, bytes))
        text = said.decode(errors="replace").strip()[-500:] or "nothing"
        name = " ".join(map(str, command))
        raise TooLate(f"`{name}` was killed after {within_s:g} s; it had said: {text}") from late


class Machine:
    """A systemd as process 1. `folder` is empty, and on a file system that an overlay may write to."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.root = Path()
        """Its files, once it is up."""
        self._log = folder / "boot.log"
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        groups = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
        if groups is None:
            raise CannotRun("no control groups of version 2 are mounted")
        self.group = groups / f"tandem-demo-{os.getpid()}"
        try:
            self.group.mkdir()
        except OSError as error:
            raise CannotRun(f"no control group can be made: {error}") from error
        enter = f'echo $$ > {self.group}/cgroup.procs && exec "$@"'
        command = ["sh", "-c", enter, "sh", *_INSIDE, "sh", _BOOT, folder, package]
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(command, stdout=log, stderr=log)
        self._enter: tuple[str, ...] = ()

    async def boot(self) -> None:
        """Wait until systemd can be asked. Raises CannotRun when it does not come up."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        with trio.move_on_after(BOOT_S):
            while self._outer.poll() is None:
                if pid := children.read_text().strip():
                    self._enter = ("nsenter", "-r", "-m", "-p", "-t", pid)
                    if self._is_running():
                        self.root = Path(f"/proc/{pid}/root")
                        return
                await trio.sleep(0.1)
        raise CannotRun(f"systemd does not start in namespaces: {self._log.read_text()[-1000:]}")

    def _is_running(self) -> bool:
        try:
            said = finished([*self._enter, "systemctl", "is-system-running"], CHECK_S).stdout
        except TooLate:
            return False  # it is asked again while it boots
        return said.strip() in ("running", "degraded")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in there, as root. Raises TooLate after `COMMAND_S`."""
        return finished([*self._enter, *command])

    def ask(self, *command: str) -> str:
        """What it says."""
        return self.run(*command).stdout.strip()

    def close(self) -> None:
        """End all that runs in there, and wait for it."""
        self._outer.kill()
        try:
            self._outer.wait(CLOSE_S)
        except subprocess.TimeoutExpired as late:
            raise TooLate(f"process {self._outer.pid} was killed and does not end") from late
        give_up_s = time.monotonic() + CLOSE_S
        while "populated 1" in (self.group / "cgroup.events").read_text():
            if time.monotonic() > give_up_s:
                raise CannotRun(f"processes are left in {self.group}")
            time.sleep(0.05)
        for folder, _, _ in os.walk(self.group, topdown=False):
            os.rmdir(folder)
