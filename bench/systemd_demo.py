"""The Debian package under a real systemd, in namespaces of its own: `make systemd-demo`.

    tandem@blue gets ready ─ a call between the simulated providers talks on while control is killed (SIGKILL) and
    stopped (SIGSTOP, the watchdog's) ─ systemctl stop: the call ends by itself, and nothing is left

Prints one line for each claim that the units make. Exit code 1 when one does not hold, 77 where this cannot be run
(see bench/systemd_machine.py).
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import trio

from bench.rig import ACCOUNT_SID
from bench.sim_elevenlabs import AgentScript, ElevenLabsSim, Utterance
from bench.sim_twilio import Caller, SimCall, TwilioSim
from bench.systemd_machine import CHECK_S, NETWORK, CannotRun, Machine, check, finished

CANNOT_RUN = 77
UNIT = "tandem@blue.service"
STATE = "/var/lib/tandem"
OURS, AGENT = "+14155550199", "agent_systemd"
SECRETS = {
    "control_admin_key": "admin-key-of-the-demo",
    "twilio_account_sid": ACCOUNT_SID,
    "twilio_auth_token": "token-of-the-demo",
    "elevenlabs_api_key": "xi-of-the-demo",
}
CONFIG = """
public = {{ listen = "127.0.0.1:8443", url = "http://127.0.0.1:8443" }}
twilio = {{ api_base_url = "{twilio}" }}
elevenlabs = {{ base_url = "{elevenlabs}" }}
media = {{ workers = 1, drain_timeout_s = 30.0, admit_lateness_ms = 0.0, admit_load_percent = 0.0 }}
policy = {{ rules = ["base"] }}
"""
DEADLINE_S = 90.0
FED_WITHIN_S = 15.0
"""A sign of life is sent every 10 s."""


class Demo:
    """The claims, in order."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._began_s = 0.0
        self.failed = 0

    async def run(self) -> None:
        """The providers and the configuration; then claim after claim."""
        script = AgentScript(
            first_message=Utterance("And so on.", Utterance.of("agent_long").pcm16 * 60), speed=1.0
        )
        elevenlabs = ElevenLabsSim(SECRETS["elevenlabs_api_key"], {AGENT: script})
        twilio = TwilioSim(ACCOUNT_SID, SECRETS["twilio_auth_token"], (OURS,))
        async with trio.open_nursery() as nursery:
            ends = {"twilio": await nursery.start(twilio.run)}
            ends["elevenlabs"] = elevenlabs.base_url = await nursery.start(elevenlabs.run)
            etc = self._machine.root / "etc/tandem"
            (etc / "config.toml").write_text(CONFIG.format(**ends))
            for name, secret in SECRETS.items():
                (etc / "credentials" / name).write_text(secret)
                (etc / "credentials" / name).chmod(0o600)
            await self._started()
            if not self.failed:
                self._sandboxed()
                call = await self._called(twilio)
                await self._killed("KILL", call)
                await self._killed("STOP", call)
                await self._stopped(call)
            nursery.cancel_scope.cancel()
        if self.failed:
            print(self._machine.ask("journalctl", "-u", UNIT, "-o", "cat", "-n", "40"))

    async def _started(self) -> None:
        self._clock()
        started = await trio.to_thread.run_sync(self._machine.run, "systemctl", "start", UNIT)
        self._claim(not started.returncode, "READY=1 came", started.stderr or self._clock())
        first = self._shows("WatchdogTimestampMonotonic")
        fed = await _until(lambda: self._shows("WatchdogTimestampMonotonic") != first, FED_WITHIN_S)
        self._claim(fed, "the watchdog is fed", self._shows("WatchdogUSec"))

    def _sandboxed(self) -> None:
        run, pid = self._machine.run, self._shows("MainPID")
        lines = self._machine.ask("cat", f"/proc/{pid}/status").splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        found = [int(status[name], 16) for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")]
        self._claim(found == [0, 0, 1, 2], "no capability, seccomp on", found)
        user = self._machine.ask("ps", "-o", "user=", "-p", pid)
        self._claim(user == "tandem", "it is not root", user)
        beside = (
            "nsenter",
            "-m",
            "-t",
            pid,
            "touch",
        )  # as root, in the service's view of the files
        for place in ("/etc/tandem/x", "/usr/lib/tandem@blue/x", "/var/lib/x"):
            error = run(*beside, place).stderr.strip()
            self._claim("Read-only file system" in error, "a forbidden write fails", error)
        self._claim(not run(*beside, f"{STATE}/x").returncode, "its state folder can be written")
        place = f"/run/credentials/{UNIT}"
        self._claim(self._machine.ask("ls", place).split() == sorted(SECRETS), "credentials shown")
        other = run("setpriv", "--reuid=nobody", "--clear-groups", "ls", place).stderr.strip()
        self._claim("Permission denied" in other, "to nobody else", other)

    async def _called(self, twilio: TwilioSim) -> SimCall:
        """A call in progress, of an agent that was made with the key of the credential."""
        key = {"Authorization": f"Bearer {SECRETS['control_admin_key']}"}
        address = "http://127.0.0.1:8080/v2"
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=DEADLINE_S) as api:
            codes = [(await api.get("/tenants", headers=h)).status_code for h in ({}, key)]
            self._claim(codes == [401, 200], "the admin key is the credential's", codes)
            body = {"name": AGENT, "number": {"e164": OURS}, "elevenlabs_agent_id": AGENT}
            made = await api.post("/agents", json=body | {"self_test": False}, headers=key)
            agent = made.raise_for_status().json()
            with trio.move_on_after(DEADLINE_S):
                while agent["status"] == "provisioning":
                    await trio.sleep(0.1)
                    agent = (await api.get(f"/agents/{agent['id']}", headers=key)).json()
        call = await twilio.call_in("+14155570001", OURS, Caller())
        self._claim(await _hears(call), "a caller hears the agent", agent["status"])
        return call

    async def _killed(self, signal: str, call: SimCall) -> None:
        """The next control process takes the worker over, and the caller talks on in the same stream."""
        self._clock()
        pid, restarts, stream = self._shows("MainPID"), self._shows("NRestarts"), call.stream
        self._machine.run("kill", "-s", signal, pid)
        again = await _until(
            lambda: self._shows("NRestarts") != restarts and self._shows("SubState") == "running"
        )
        self._claim(again and self._shows("MainPID") != pid, f"SIG{signal}: restart", self._clock())
        self._claim(await _hears(call) and call.stream is stream, "the caller never noticed")

    async def _stopped(self, call: SimCall) -> None:
        self._clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                trio.to_thread.run_sync, self._machine.run, "systemctl", "stop", UNIT
            )
            stops = await _until(lambda: self._shows("SubState") == "stop-sigterm")
            self._claim(stops and await _hears(call), "systemctl stop: the call goes on")
            call.hang_up()
        found = [self._shows("Result"), self._shows("ExecMainStatus")]
        self._claim(found == ["success", "0"], "drained, exit code 0", self._clock())
        left = [path.read_text() for path in self._machine.group.glob(f"**/{UNIT}/cgroup.procs")]
        self._claim(not "".join(left), "no process is left", "".join(left))
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(self._machine.root / STATE[1:], copy, dirs_exist_ok=True)
            with sqlite3.connect(Path(copy) / "tandem.db") as store:
                rows = store.execute("select result from calls").fetchall()
        self._claim(rows == [("completed",)], "one record, and it is complete", rows)

    def _claim(self, holds: bool, what: str, found: object = "") -> None:
        mark = "ok    " if holds else "FAILED"
        print(f"{mark} {what}" + (f"  ({found})" if found else ""), flush=True)
        self.failed += not holds

    def _shows(self, name: str) -> str:
        return self._machine.ask("systemctl", "show", "--value", "-p", name, UNIT)

    def _clock(self) -> str:
        took_s = trio.current_time() - self._began_s
        self._began_s += took_s
        return f"{took_s:.1f} s"


async def _until(holds: Callable[[], bool], within_s: float = DEADLINE_S) -> bool:
    with trio.move_on_after(within_s):
        while not holds():
            await trio.sleep(0.1)
        return True
    return False


async def _hears(call: SimCall) -> bool:
    """Whether more of the agent comes than has come until now."""
    heard = call.media_messages
    return await _until(lambda: call.media_messages > heard)


async def _in_namespace(scratch: Path, package: Path) -> int:
    machine = Machine(scratch, package)
    try:
        await machine.boot()
        print(machine.ask("systemctl", "--version").partition("\n")[0], package.name, flush=True)
        demo = Demo(machine)
        await demo.run()
    finally:
        machine.close()
    return 1 if demo.failed else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.systemd_demo", description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        if given.scratch:
            mount = ["mount", "-t", "tmpfs", "tmpfs", str(given.scratch)]
            finished(mount, CHECK_S).check_returncode()
            return trio.run(_in_namespace, given.scratch, given.package.resolve(strict=True))
        check()
        with tempfile.TemporaryDirectory(prefix="tandem-systemd-") as scratch:
            again = [
                sys.executable,
                "-m",
                "bench.systemd_demo",
                given.package,
                "--scratch",
                scratch,
            ]
            return subprocess.run([*NETWORK, *again], check=False).returncode
    except CannotRun as error:
        print(f"systemd-demo cannot be run here: {error}", file=sys.stderr)
        return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
