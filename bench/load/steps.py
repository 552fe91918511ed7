"""One step: a fresh generator and a fresh target, ramp, window, account; and the judgement of what came out."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.load import procfs
from bench.load.lister import Lister
from bench.load.plan import StepPlan
from bench.load.targets import DAEMON, ROOT, Daemon, Place, Target, TargetFailed, baseline

UPLINK_P99_MAX_MS = 20.0
UNDERRUN_SHARE_MAX = 0.0
GENERATOR_CPU_MAX = 0.93
GENERATOR_LATE_P99_MAX_MS = 5.0
FRAMES_SHARE_MIN = 0.995
STALL_S = 60.0

Progress = Callable[[dict[str, Any]], None]


class StepFailed(Exception):
    """There is no result."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all steps of a run have in common."""

    generator_cores: set[int]
    target_cores: set[int]
    workers: int = 1
    media: Mapping[str, object] = field(default_factory=dict)
    """Further keys of `[media]`."""
    priority: int = 0
    """Niceness of generator and target: below 0 for a machine that has other work (needs the right)."""
    lists_calls: bool = False
    """List the calls over the control API all through the window."""
    with_records: bool = False
    """Read every call's record afterwards and compare its counters."""


Watch = Callable[[dict[str, Any], dict[str, list[int]]], None]
"""Told of every event of the generator, and of `idle` before the first call, with the target's processes by role."""


def run_step(
    target_name: str,
    plan: StepPlan,
    bench: Bench,
    progress: Progress,
    watch: Watch = lambda event, roles: None,
) -> dict[str, Any]:
    """Raises StepFailed when generator or target fail to run; bad figures are a result."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as name:
        folder = Path(name)
        if plan.tls:
            plan = _with_certificate(plan, folder)
        plan = replace(plan, is_relay=target_name == "relay-epoll")
        generator = _Generator(plan, bench, folder)
        try:
            listening = generator.next(STALL_S)
            try:
                target = _start(target_name, plan, bench, folder, listening)
            except TargetFailed as error:
                raise StepFailed(str(error)) from error
            try:
                return _drive(target, generator, plan, bench, progress, watch)
            finally:
                target.stop()
        finally:
            generator.stop()


def _with_certificate(plan: StepPlan, folder: Path) -> StepPlan:
    from bench.sim_elevenlabs.tls import throwaway_tls

    _, certificate = throwaway_tls(folder)
    return replace(plan, certificate=str(certificate), key=str(folder / "sim-key.pem"))


def _start(
    name: str, plan: StepPlan, bench: Bench, folder: Path, listening: dict[str, Any]
) -> Target:
    if name != DAEMON:
        return baseline(
            name,
            folder,
            Place(bench.target_cores, bench.priority),
            listening["agent_url"],
            plan.certificate,
        )
    short_per_s = max(plan.churn_per_s, plan.fill_per_s if plan.fill_calls else 0.0)
    short = int(short_per_s * (plan.churn_call_s + 30))
    return Daemon(
        folder,
        Place(bench.target_cores, bench.priority),
        provider_url=listening["url"],
        calls_max=plan.calls + short + 50,
        workers=bench.workers,
        media=bench.media,
        certificate=plan.certificate,
    )


class _Generator:
    """The generator's process and its JSON lines."""

    def __init__(self, plan: StepPlan, bench: Bench, folder: Path) -> None:
        self._errors = folder / "generator.log"
        place = Place(bench.generator_cores, bench.priority)
        with self._errors.open("wb") as errors, place:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.load.generator", plan.to_json()],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        place.prefer(self._process.pid)
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._buffer = b""

    def tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def next(self, timeout_s: float) -> dict[str, Any]:
        """The next line. Raises StepFailed when there is none in time."""
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            if not self._selector.select(timeout_s):
                raise StepFailed("the generator has stalled")
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                words = self._errors.read_text(errors="replace")[-1500:]
                raise StepFailed(f"the generator has died: {words}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._selector.close()


def _drive(
    target: Target,
    generator: _Generator,
    plan: StepPlan,
    bench: Bench,
    progress: Progress,
    watch: Watch,
) -> dict[str, Any]:
    roles = target.roles()
    watch({"event": "idle"}, roles)
    everyone = [pid for pids in roles.values() for pid in pids]
    idle_kib = {role: sum(map(procfs.pss_kib, pids)) for role, pids in roles.items()}
    at_start = procfs.usage(everyone)
    generator.tell(target.door)
    window: dict[str, Any] = {}
    lister = (
        Lister(target, bench.generator_cores)
        if bench.lists_calls and isinstance(target, Daemon)
        else None
    )
    listed: dict[str, Any] = {}
    while True:
        event = generator.next(STALL_S)
        progress(event)
        watch(event, roles)
        match event["event"]:
            case "window_begin":
                window = {
                    "at_s": time.monotonic(),
                    "begin": procfs.usage(everyone),
                    "cores_begin": procfs.cores(),
                }
                if lister is not None:
                    lister.start()
            case "window_end":
                window["seconds"] = time.monotonic() - window["at_s"]
                window["end"] = procfs.usage(everyone)
                window["cores_end"] = procfs.cores()
                window["pss_kib"] = {
                    role: sum(map(procfs.pss_kib, pids)) for role, pids in roles.items()
                }
                if lister is not None:
                    listed = lister.stop()
            case "done":
                result = event["result"]
                break
    result |= {
        "target": target.name,
        "plan": {"tls": plan.tls, "format": plan.audio_format, "seconds": plan.seconds},
        "cpu": _cpu(roles, window, plan.calls),
        "noise": _noise(window, bench, result),
        "memory": {
            f"{role}_kib_per_call": round(
                (window["pss_kib"][role] - idle_kib[role]) / max(1, plan.calls), 1
            )
            for role in roles
        }
        | {f"{role}_idle_kib": kib for role, kib in idle_kib.items()},
    }
    if listed:
        result["listed"] = listed
    if isinstance(target, Daemon):
        result["control_ms_per_call"] = _control_ms(roles, at_start, window, result)
        if bench.with_records:
            result["records"] = _records(target, result)
    result["verdict"] = judge(result)
    return result


def _cpu(roles: dict[str, list[int]], window: dict[str, Any], calls: int) -> dict[str, float]:
    """Microseconds of CPU per call and second, and the share of a core, by role."""
    found: dict[str, float] = {}
    for role, pids in roles.items():
        user_s = system_s = 0.0
        for pid in pids:
            if pid in window["begin"] and pid in window["end"]:
                user_s += window["end"][pid].user_s - window["begin"][pid].user_s
                system_s += window["end"][pid].system_s - window["begin"][pid].system_s
        per_call = 1e6 / window["seconds"] / calls
        found[f"{role}_us"] = round((user_s + system_s) * per_call, 1)
        found[f"{role}_user_us"] = round(user_s * per_call, 1)
        found[f"{role}_share"] = round((user_s + system_s) / window["seconds"], 4)
    return found


def _noise(window: dict[str, Any], bench: Bench, result: dict[str, Any]) -> dict[str, float]:
    """What others took of the cores in the window: shares of a core."""
    seconds = window["seconds"]
    ours = result["generator"]["cpu_share"] * seconds + sum(
        window["end"][pid].user_s
        + window["end"][pid].system_s
        - window["begin"][pid].user_s
        - window["begin"][pid].system_s
        for pid in window["end"]
    )
    busy = stolen = 0.0
    for core in bench.generator_cores | bench.target_cores:
        begin, end = window["cores_begin"][core], window["cores_end"][core]
        busy += end[0] - begin[0]
        stolen += end[1] - begin[1]
    return {
        "others_share": round(max(0.0, busy - ours) / seconds, 3),
        "stolen_share": round(stolen / seconds, 3),
    }


def _control_ms(
    roles: dict[str, list[int]],
    at_start: dict[int, procfs.Usage],
    window: dict[str, Any],
    result: dict[str, Any],
) -> float:
    """CPU of the control process per call for setup, end and record: everything outside of the window."""
    at_end = procfs.usage(roles["control"])
    total_s = 0.0
    for pid in roles["control"]:
        for later, earlier in ((window["begin"], at_start), (at_end, window["end"])):
            if pid in later and pid in earlier:
                total_s += later[pid].user_s + later[pid].system_s
                total_s -= earlier[pid].user_s + earlier[pid].system_s
    return round(total_s * 1000 / max(1, result["calls"]), 2)


def _records(daemon: Daemon, result: dict[str, Any]) -> dict[str, Any]:
    """What the daemon itself has counted, from its call records."""
    deadline_s = time.monotonic() + 10.0
    while True:
        records = daemon.records()
        if all(record["status"] == "completed" for record in records):
            break
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.2)
    media = [record["media"] or {} for record in records]
    frames = sum(m.get("caller_audio", {}).get("frames", 0) for m in media)
    return {
        "calls": len(records),
        "statuses": sorted({record["status"] for record in records}),
        "caller_frames": frames,
        "frames_passed_on": sum(m.get("caller_audio", {}).get("sent_frames", 0) for m in media),
        "agree": frames == result["account"]["frames_sent"],
    }


def judge(result: dict[str, Any]) -> dict[str, Any]:
    """Whether the figures may be reported at all, and whether the target held."""
    generator = result["generator"]
    refused = []
    if not generator:
        refused.append("there was no window")
    else:
        if generator["cpu_share"] > GENERATOR_CPU_MAX:
            refused.append(f"generator used {generator['cpu_share']:.0%} of its core")
        late = generator["lateness_ms"].get("p99", 0.0)
        if late > GENERATOR_LATE_P99_MAX_MS:
            refused.append(f"generator was late by {late:.1f} ms at p99")
        if generator["frames"] < FRAMES_SHARE_MIN * generator["frames_due"] and not any(
            result["errors"].values()
        ):
            refused.append("generator sent too few frames")
    missed = []
    if result["account"]["calls_failed"]:
        missed.append(f"{result['account']['calls_failed']} calls failed")
    p99 = result["uplink_ms"].get("p99")
    if p99 is None or p99 > UPLINK_P99_MAX_MS:
        missed.append(f"uplink p99 {p99} ms")
    if result["underruns"] and result["target"] == DAEMON:
        missed.append(f"{result['underruns']} underruns")
    if not result["account"]["balances"]:
        missed.append("counts do not balance")
    return {"valid": not refused, "refused": refused, "holds": not missed, "missed": missed}
