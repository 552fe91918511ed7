"""python -m bench.load --calls 50,100,200 --seconds 15 [--tls] [--format pcm_16000] [--frame-ms 40]
                           [--baselines] [--find-max] [--runs 3] [--json FILE] [--html FILE]

Loads loopback only. Exit code 0 when everything was measured, 1 when a step failed or (with `--smoke`) when
counts do not balance, 3 when the generator was the bottleneck and figures were refused.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.load import report
from bench.load.plan import StepPlan
from bench.load.steps import Bench, StepFailed, run_step
from bench.load.targets import BASELINES, DAEMON

CALLS_MAX = 4000
SECONDS_MAX = 600.0
FIND_FIRST = 100
FIND_STEP_SHARE = 0.06
EXIT_REFUSED = 3

Run = Callable[[str, int], "dict[str, Any] | None"]


def main() -> int:
    """One run of the bench."""
    options = _parse()
    console = Console(stderr=True)
    bench = _bench(options)
    plan = _plan(options)
    results: list[dict[str, Any]] = []
    failed = False
    with _progress(console) as bars:

        def run(target: str, calls: int) -> dict[str, Any] | None:
            nonlocal failed
            try:
                result = _watched(target, replace(plan, calls=calls), bench, bars)
            except StepFailed as error:
                bars.console.print(f"[red]{target}, {calls} calls: {error}")
                failed = True
                return None
            results.append(result)
            bars.console.print(f"{target}, {calls} calls: {report.outcome(result)}")
            return result

        for _ in range(options.runs):
            for target in options.targets:
                if options.find_max:
                    _find_max(run, target, options.calls[-1])
                else:
                    for calls in options.calls:
                        run(target, calls)
    _print(console, results)
    _write(options, results, bench)
    if options.smoke:
        failed |= not all(_balances(result) for result in results)
    if failed or not results:
        return 1
    refused = any(not result["verdict"]["valid"] for result in results)
    return EXIT_REFUSED if refused and not options.smoke else 0


def _find_max(run: Run, target: str, calls_max: int) -> None:
    """Double until it no longer holds, then halve the distance. Every step is in the results."""
    good, bad = 0, calls_max + 1
    calls = min(FIND_FIRST, calls_max)
    while good < calls < bad:
        result = run(target, calls)
        if result is None or not result["verdict"]["valid"]:
            return  # the generator's own limit: more calls would say nothing about the target
        if result["verdict"]["holds"]:
            good = calls
        else:
            bad = calls
        if bad > calls_max:
            calls = min(2 * good, calls_max)
        elif bad - good <= max(5, good * FIND_STEP_SHARE):
            return
        else:
            calls = (good + bad) // 2


def _watched(target: str, plan: StepPlan, bench: Bench, bars: Progress) -> dict[str, Any]:
    total = plan.calls / plan.ramp_per_s + plan.warmup_s + plan.seconds + 3.0
    bar = bars.add_task(f"{target} {plan.calls}", total=total, state="starting", talking=0)
    spent = 0.0

    def progress(event: dict[str, Any]) -> None:
        nonlocal spent
        if event["event"] == "progress":
            spent += 0.5
            bars.update(
                bar,
                completed=min(spent, total),
                state=event["state"],
                talking=event["talking"],
            )

    try:
        return run_step(target, plan, bench, progress)
    finally:
        bars.remove_task(bar)


def _balances(result: dict[str, Any]) -> bool:
    """Every frame sent is accounted for, here and in the daemon's own records."""
    records = result.get("records")
    return bool(result["account"]["balances"] and (records is None or records["agree"]))


# ---- output ------------------------------------------------------------------------------------------


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}, {task.fields[talking]} calls"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _print(console: Console, results: list[dict[str, Any]]) -> None:
    table = Table(title="Load bench")
    for name in report.COLUMNS:
        table.add_column(name, justify="left" if name in ("target", "holds") else "right")
    for result in results:
        table.add_row(*report.row(result))
    wide = console if console.is_terminal else Console(stderr=True, width=220)
    wide.print(table)
    found = report.medians(results)
    for line in report.ratios(found):
        wide.print(line)
    for target in dict.fromkeys(one["target"] for one in found):
        holding = [one["calls"] for one in found if one["target"] == target and one["holds"]]
        wide.print(f"{target}: holds up to {max(holding, default=0)} of the calls tried")


def _write(options: argparse.Namespace, results: list[dict[str, Any]], bench: Bench) -> None:
    context = {
        "command": "python -m bench.load " + " ".join(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "cores of the generator": sorted(bench.generator_cores),
        "cores of the target": sorted(bench.target_cores),
    }
    if options.json:
        text = json.dumps({"context": context, "results": results}, indent=1)
        _file(options.json).write_text(text + "\n")
    if options.html:
        _file(options.html).write_text(report.page(results, context))


def _file(name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# ---- input -------------------------------------------------------------------------------------------


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="The load bench.")
    add = parser.add_argument
    add("--calls", type=_counts, default=[100], help="number of calls, or several with commas")
    add("--seconds", type=float, default=15.0, help="length of the window")
    add("--warmup", type=float, default=5.0, help="seconds between ramp and window")
    add("--ramp", type=float, default=25.0, help="new calls a second")
    add("--runs", type=int, default=1, help="repetitions; the ratios are of medians")
    add("--targets", type=lambda text: text.split(","), default=None, help="by name, with commas")
    add("--baselines", action="store_true", help="the daemon and all baselines")
    add("--find-max", action="store_true", help="largest number of calls that holds, up to --calls")
    add("--tls", action="store_true", help="TLS on the agent leg")
    add("--format", default="ulaw_8000", help="the agents' audio, both ways")
    add("--frame-ms", type=int, default=None, help="media.frame_ms of the daemon")
    add("--media", action="append", default=[], metavar="KEY=VALUE", help="of [media], as JSON")
    add("--workers", type=int, default=1)
    add("--chunk-ms", type=int, default=250, help="audio in one message of an agent")
    add("--chunk-gap-ms", type=int, default=100, help="time between these messages")
    add("--alignment", action="store_true", help="agents send character timing")
    add(
        "--barge", type=float, default=0.1, help="share of the calls that are interrupted each turn"
    )
    add("--churn", type=float, default=0.0, help="short calls a second beside the steady ones")
    add("--list-calls", action="store_true", help="list the calls over the API in a loop meanwhile")
    add("--generator-cores", type=_cores, default=None)
    add("--target-cores", type=_cores, default=None)
    add("--priority", type=int, default=0, help="niceness of both sides, where other work runs")
    add("--records", action="store_true", help="compare with the daemon's call records")
    add("--smoke", action="store_true", help="untimed: only counts have to be right")
    add("--json", help="results go to this file")
    add("--html", help="the report goes to this file")
    options = parser.parse_args()
    if options.targets is None:
        options.targets = [DAEMON, *(BASELINES if options.baselines else ())]
    unknown = set(options.targets) - {DAEMON, *BASELINES}
    if unknown:
        parser.error(f"unknown target: {', '.join(sorted(unknown))}")
    if not 0 < options.seconds <= SECONDS_MAX:
        parser.error(f"--seconds is at most {SECONDS_MAX:g}")
    return options


def _plan(options: argparse.Namespace) -> StepPlan:
    return StepPlan(
        calls=0,
        seconds=options.seconds,
        warmup_s=options.warmup,
        ramp_per_s=options.ramp,
        audio_format=options.format,
        tls=options.tls,
        agent_chunk_ms=options.chunk_ms,
        agent_chunks_per_turn=max(1, round(2000 / options.chunk_ms)),
        agent_chunk_gap_ms=options.chunk_gap_ms,
        alignment=options.alignment,
        barge_share=options.barge,
        churn_per_s=options.churn,
    )


def _bench(options: argparse.Namespace) -> Bench:
    """The generator gets the first core, the target the last ones; with one core both share it."""
    cores = sorted(os.sched_getaffinity(0))
    media: dict[str, object] = {}
    for item in options.media:
        key, _, value = item.partition("=")
        media[key] = json.loads(value)
    if options.frame_ms is not None:
        media["frame_ms"] = options.frame_ms
    return Bench(
        generator_cores=options.generator_cores or {cores[0]},
        target_cores=options.target_cores or set(cores[1 : 1 + options.workers] or cores),
        workers=options.workers,
        media=media,
        priority=options.priority,
        lists_calls=options.list_calls,
        with_records=options.records or options.smoke,
    )


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if not all(0 < count <= CALLS_MAX for count in counts):
        raise argparse.ArgumentTypeError(f"between 1 and {CALLS_MAX}")
    return counts


def _cores(text: str) -> set[int]:
    return {int(part) for part in text.split(",")}


if __name__ == "__main__":
    sys.exit(main())
