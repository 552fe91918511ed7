"""A systemd of one's own in namespaces: nothing of this machine is changed, and all of it ends with `Machine.close`.

It wants root, dpkg, systemd, and a kernel that permits namespaces, overlays and a control group of version 2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import trio

BOOT_S = 90.0
CLOSE_S = 10.0
NETWORK = ("unshare", "--mount", "--propagation", "private", "--net")
"""For whoever makes a Machine: the scratch folder and the addresses are seen by nobody else."""
_PROCESSES = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
_INSIDE = (*_PROCESSES, "--cgroup", "--ipc", "--uts")
_BOOT = Path(__file__).with_name("systemd_boot.sh")


class CannotRun(Exception):
    """This machine does not permit it; the text says what."""


def check() -> None:
    """Raises CannotRun for what can be seen beforehand."""
    if os.geteuid() != 0:
        raise CannotRun("it wants root")
    for tool in ("unshare", "nsenter", "pivot_root", "dpkg", "/lib/systemd/systemd"):
        if shutil.which(tool) is None:
            raise CannotRun(f"there is no {tool}")
    tried = subprocess.run([*_INSIDE, "--net", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise CannotRun(f"namespaces are not permitted: {tried.stderr.strip()}")


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
                    if self.ask("systemctl", "is-system-running") in ("running", "degraded"):
                        self.root = Path(f"/proc/{pid}/root")
                        return
                await trio.sleep(0.1)
        raise CannotRun(f"systemd does not start in namespaces: {self._log.read_text()[-1000:]}")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in there, as root."""
        return subprocess.run([*self._enter, *command], capture_output=True, text=True, check=False)

    def ask(self, *command: str) -> str:
        """What it says."""
        return self.run(*command).stdout.strip()

    def close(self) -> None:
        """End all that runs in there, and wait for it."""
        self._outer.kill()
        self._outer.wait()
        give_up_s = time.monotonic() + CLOSE_S
        while "populated 1" in (self.group / "cgroup.events").read_text():
            if time.monotonic() > give_up_s:
                raise CannotRun(f"processes are left in {self.group}")
            time.sleep(0.05)
        for folder, _, _ in os.walk(self.group, topdown=False):
            os.rmdir(folder)
