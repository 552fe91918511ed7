"""The real daemon between the two simulated providers, on loopback: for the demo and for whole-call tests.

    async with open_rig(Path("out"), agents={...}) as rig:
        agent = await rig.create_agent("+14155550199", "agent_1")
        call = await rig.twilio.call_in("+14155550100", "+14155550199", Caller(...))

The daemon is a process of its own, started with a configuration file like anybody's, and reached only over
its sockets.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import trio

from bench.balancer import Balancer
from bench.faults import FaultProxy
from bench.ports import free_port
from bench.sim_elevenlabs import AgentScript, ElevenLabsSim
from bench.sim_twilio import TwilioSim

ACCOUNT_SID = "AC00000000000000000000000000000a01"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
LIVE_TIMEOUT_S = 90.0
REPOSITORY = Path(__file__).resolve().parent.parent


WIRES = ("public", "twilio", "elevenlabs", "agent", "post_call")
"""Where a proxy can be put: Twilio to our public port (webhooks and streams), the daemon to Twilio's REST API,
to ElevenLabs' REST API, to its conversation sockets, and ElevenLabs' post-call webhook to our public port."""


def on_close(rig: Rig) -> None:
    """Called with each rig that is closed, its daemon stopped. For whoever looks at what was asked of the providers."""


class RigError(Exception):
    """The daemon did not do what a rig needs; the text holds the end of its log."""


class WallClock:
    """The host's clock, or one that shows another time and goes on from there."""

    def __init__(self, at: datetime | None) -> None:
        self.is_set = at is not None
        self._ahead = timedelta() if at is None else at - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def set(self, at: datetime) -> None:
        """For the simulated Twilio at once; the daemon has it when it is started again."""
        self.is_set, self._ahead = True, at - datetime.now(UTC)

    def environment(self) -> dict[str, str]:
        """What the daemon is told when it is started now."""
        return {"TANDEM_TEST_CLOCK": self.now().isoformat()} if self.is_set else {}


@dataclass
class Daemon:
    """The process under test. `log_path` holds all that it wrote."""

    process: subprocess.Popen[bytes]
    config_path: Path
    log_path: Path

    def log_lines(self) -> list[dict[str, Any]]:
        """Its structured log so far; lines of another shape are left out."""
        lines = []
        for line in self.log_path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    async def stop(
        self, signal_number: int = signal.SIGTERM, *, within_s: float = STOP_TIMEOUT_S
    ) -> int:
        """Ask it to stop and wait; it is killed after a deadline. Returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        with trio.move_on_after(within_s):
            while self.process.poll() is None:
                await trio.sleep(0.02)
        if self.process.poll() is None:
            self.process.kill()
        return await trio.to_thread.run_sync(self.process.wait)


@dataclass
class Rig:
    """The daemon, the providers and a client of its control API."""

    folder: Path
    twilio: TwilioSim
    elevenlabs: ElevenLabsSim
    api: httpx.AsyncClient
    public_url: str
    environment: dict[str, str]
    daemon: Daemon
    agents: dict[str, str] = field(default_factory=dict)
    """Our agent ids by ElevenLabs' agent ids."""
    former: list[Daemon] = field(default_factory=list)
    """Instances beside which another one was started; stopped at the end, too."""
    wires: dict[str, FaultProxy] = field(default_factory=dict)
    """Proxies that can spoil a wire, by the names of `WIRES`; those that `open_rig` was asked for."""
    store_url: str = ""
    """What the daemon keeps its records in."""
    peers: list[Rig] = field(default_factory=list)
    """The other nodes, each with its own daemon, folder and API; providers and store are the same."""
    balancer: Balancer | None = None
    """In front of the nodes' public ports, when there is more than one."""
    clock: WallClock = field(default_factory=lambda: WallClock(None))

    async def get(self, path: str, **params: Any) -> Any:
        return self._answer(await self.api.get(path, params=params))

    async def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._answer(await self.api.post(path, json=body or {}, headers=headers))

    def _answer(self, response: httpx.Response) -> Any:
        if response.status_code >= 400:
            raise RigError(f"{response.request.url}: {response.status_code} {response.text}")
        return response.json()

    async def create_agent(self, number: str, elevenlabs_agent_id: str, **fields: Any) -> Any:
        """An agent on an adopted number; returns it when it is live (or degraded).

        Without a self-test, unless `fields` ask for one: the conversations are the calls' own then.
        """
        body = {
            "name": elevenlabs_agent_id,
            "number": {"e164": number},
            "elevenlabs_agent_id": elevenlabs_agent_id,
            "self_test": False,
            **fields,
        }
        agent = await self.settled_agent(await self.post("/v2/agents", body))
        if agent["status"] not in ("live", "degraded"):
            raise RigError(f"agent is {agent['status']}: {agent['provisioning']}")
        self.agents[elevenlabs_agent_id] = agent["id"]
        return agent

    async def settled_agent(self, agent: Any, *, timeout_s: float = LIVE_TIMEOUT_S) -> Any:
        """The agent when its provisioning is over and no change is under way, whatever came of it."""
        with trio.fail_after(timeout_s):
            while agent["status"] == "provisioning" or agent["pending"]:
                await trio.sleep(0.05)
                agent = await self.get(f"/v2/agents/{agent['id']}")
        return agent

    async def record_of(self, call_sid: str, *, timeout_s: float = 60.0) -> Any:
        """The complete record of a call, when it has ended."""
        with trio.fail_after(timeout_s):
            while True:
                for item in (await self.get("/v2/calls", limit=100))["items"]:
                    if item["metadata"].get("twilio_call_sid") == call_sid and item["ended_at"]:
                        return await self.get(f"/v2/calls/{item['id']}")
                await trio.sleep(0.1)

    async def start_beside(self, name: str) -> Daemon:
        """Start a second instance on the same public port and store, and turn to its API; returns the first one."""
        former = self.daemon
        self.former.append(former)
        control = free_port()
        environment = {**self.environment, "TANDEM_CONTROL_LISTEN": f"127.0.0.1:{control}"}
        self.daemon = _spawn(self.folder, environment, name=name)
        self.api.base_url = f"http://127.0.0.1:{control}"
        await _wait_ready(self.daemon, self.api)
        self.environment = environment
        return former

    async def kill_node(self) -> None:
        """SIGKILL to control and all its workers at once, as when the machine loses its power."""
        started = [line for line in self.daemon.log_lines() if line.get("event") == "worker_ready"]
        self.daemon.process.kill()
        for line in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(line["pid"], signal.SIGKILL)
        await trio.to_thread.run_sync(self.daemon.process.wait)

    async def restart_daemon(self) -> None:
        """Start the daemon again, on the same configuration and store."""
        self.environment |= self.clock.environment()
        self.daemon = _spawn(self.folder, self.environment)
        await _wait_ready(self.daemon, self.api)


@contextlib.asynccontextmanager
async def open_rig(
    folder: Path,
    *,
    agents: Mapping[str, AgentScript],
    numbers: Sequence[str] = ("+14155550199",),
    media: Mapping[str, Any] | None = None,
    rules: Sequence[str] = ("base",),
    policy: Mapping[str, Any] | None = None,
    config: str = "",
    twilio: TwilioSim | None = None,
    wires: Sequence[str] = (),
    began_at: datetime | None = None,
    cps: float = 10.0,
    store_url: str | None = None,
    nodes: int = 1,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Rig]:
    """Both simulators in this process, the daemon in its own; everything is gone at the end.

    `media` are keys of `[media]`, `rules` are `policy.rules`, `policy` its other keys, `config` is more TOML, `wires` get a proxy.
    `began_at`: what the daemon's and the simulated Twilio's clocks show at first; they go on from there.
    `environment` is added to the daemon's. `store_url` is an empty database; without it SQLite gets a file. With several `nodes` (which want a
    PostgreSQL) Twilio's webhooks come through a balancer, and each node's media streams come to it directly.
    Raises RigError when a daemon does not start.
    """
    clock = WallClock(began_at)
    folder.mkdir(parents=True, exist_ok=True)
    auth_token, api_key, admin_key = (secrets.token_hex(16) for _ in range(3))
    twilio = twilio or TwilioSim(
        ACCOUNT_SID, auth_token, numbers, say_s_per_char=0.002, now=clock.now
    )
    elevenlabs = ElevenLabsSim(api_key, agents)
    public, control = free_port(), free_port()
    store_url = store_url or f"sqlite:///{folder / 'tandem.db'}"
    sealed = {"encryption_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}
    further = [(free_port(), free_port()) for _ in range(1, nodes)]
    async with trio.open_nursery() as nursery:
        twilio_url = await nursery.start(twilio.run)
        elevenlabs_url = await nursery.start(elevenlabs.run)
        balancer = Balancer([public, *(port for port, _ in further)]) if further else None
        public_url = f"http://127.0.0.1:{public}"
        if balancer is not None:
            public_url = await nursery.start(balancer.run)
        ends = {"public": public_url, "twilio": twilio_url, "post_call": public_url}
        ends |= {"elevenlabs": elevenlabs_url, "agent": elevenlabs_url}
        proxies = {name: FaultProxy(int(ends[name].rpartition(":")[2])) for name in wires}
        for name, proxy in proxies.items():
            ends[name] = await nursery.start(proxy.run)
        elevenlabs.base_url = ends["agent"]  # signed URLs lead there
        settings: dict[str, dict[str, Any]] = {
            "public": {"listen": f"127.0.0.1:{public}", "url": ends["public"]},
            "control": {"listen": f"127.0.0.1:{control}", "admin_key": admin_key},
            "twilio": {
                "account_sid": twilio.account_sid,
                "auth_token": twilio.auth_token,
                "api_base_url": ends["twilio"],
                "cps": cps,
            },
            "elevenlabs": {"api_key": api_key, "base_url": ends["elevenlabs"]},
            "media": {
                "workers": 1,
                "recording_dir": str(folder / "recordings"),
                # What a busy machine does to the lateness of a worker is no part of most tests.
                "admit_lateness_ms": 0.0,
                "admit_load_percent": 0.0,
                **(media or {}),
            },
            "store": {"url": store_url} | ({} if store_url.startswith("sqlite") else sealed),
            "log": {"level": "info", "format": "json"},
            "policy": {"rules": list(rules), **(policy or {})},
        }
        surroundings = {**os.environ, "PYTHONPATH": str(REPOSITORY)} | clock.environment()
        surroundings |= environment or {}
        rig = Rig(
            folder,
            twilio,
            elevenlabs,
            _client(control, admin_key),
            public_url,
            surroundings,
            _spawn(folder, surroundings, _toml(_node(settings, folder, public, balancer)) + config),
            wires=proxies,
            store_url=store_url,
            balancer=balancer,
            clock=clock,
        )
        try:
            for number, ports in enumerate(further, 2):
                place = folder / f"node-{number}"
                place.mkdir()
                own = _node(settings, place, ports[0], balancer)
                own["control"] = own["control"] | {"listen": f"127.0.0.1:{ports[1]}"}
                daemon = _spawn(place, surroundings, _toml(own) + config)
                api = _client(ports[1], admin_key)
                peer = dataclasses.replace(
                    rig, folder=place, api=api, daemon=daemon, peers=[], former=[]
                )
                rig.peers.append(peer)
            for each in (rig, *rig.peers):
                await _wait_ready(each.daemon, each.api)
            yield rig
        finally:
            if (error := sys.exception()) is not None:
                for each in (rig, *rig.peers):
                    if (code := each.daemon.process.poll()) is not None:
                        error.add_note(f"the daemon of {each.folder.name} has ended: {code}")
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as stopping:
                    for each in (rig, *rig.peers):
                        for daemon in (*each.former, each.daemon):
                            stopping.start_soon(daemon.stop)
                        stopping.start_soon(each.api.aclose)
            if error is not None:
                _note_failures(error, [each.daemon for each in (rig, *rig.peers)])
            on_close(rig)
        nursery.cancel_scope.cancel()


def _note_failures(error: BaseException, daemons: list[Daemon]) -> None:
    """What they said themselves, as the last thing they did."""
    for daemon in daemons:
        for line in daemon.log_lines():
            if line.get("event") == "daemon_failed":
                error.add_note(f"{daemon.log_path.parent.name}: {line['error']}")


def _executable(environment: Mapping[str, str]) -> list[str]:
    """The daemon of this checkout, or the one that TANDEM_EXECUTABLE names."""
    named = environment.get("TANDEM_EXECUTABLE")
    return [named] if named else [sys.executable, "-m", "control"]


def _node(
    settings: dict[str, dict[str, Any]], folder: Path, port: int, balancer: Balancer | None
) -> dict[str, dict[str, Any]]:
    """The configuration of one node."""
    public = settings["public"] | {"listen": f"127.0.0.1:{port}"}
    media = {"runtime_dir": str(folder / "run")} | settings["media"]
    if balancer is not None:
        public["media_url"] = f"ws://127.0.0.1:{port}"
        media["runtime_dir"] = str(folder / "run")
        media["recording_dir"] = str(folder / "recordings")
    return settings | {"public": public, "media": media}


def _client(port: int, key: str) -> httpx.AsyncClient:
    """A client of the control API on this port."""
    headers = {"Authorization": f"Bearer {key}"}
    base_url = f"http://127.0.0.1:{port}"
    # A connection is used again for less long than the daemon keeps it: a request must not meet its end.
    limits = httpx.Limits(keepalive_expiry=1.0)
    return httpx.AsyncClient(
        base_url=base_url, headers=headers, timeout=20.0, limits=limits, trust_env=False
    )


def _spawn(
    folder: Path, environment: dict[str, str], config: str | None = None, name: str = "daemon"
) -> Daemon:
    """Start a daemon in `folder`; `config` is written there before, unless it was."""
    log_path, config_path = folder / f"{name}.log", folder / "config.toml"
    if config is not None:
        config_path.write_text(config)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [*_executable(environment), "serve", "--config", str(config_path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )
    return Daemon(process, config_path, log_path)


async def _wait_ready(daemon: Daemon, api: httpx.AsyncClient) -> None:
    with trio.move_on_after(START_TIMEOUT_S):
        while daemon.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if (await api.get("/readyz")).status_code == 200:
                    return
            await trio.sleep(0.05)
    tail = daemon.log_path.read_text(errors="replace")[-2_000:]
    raise RigError(f"the daemon did not get ready:\n{tail}")


def _toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for section, keys in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        lines.append("")
    return "\n".join(lines)
