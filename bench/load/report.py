"""The results as a page that opens without a network, and as lines of a table. Pure.

A step that was refused (the generator was the bottleneck) is listed with its reason and appears in no plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import median
from typing import Any

from bench.load.svg import line_chart
from bench.load.targets import DAEMON

Result = dict[str, Any]

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .6rem;border-bottom:1px solid #d0d7de;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
tr.refused td,tr.missed td{color:#8b3a3a} .wide{overflow-x:auto}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:1rem;margin:1.5rem 0}
svg{width:100%;height:auto} svg text{font:11px system-ui,sans-serif;fill:#1b1f24}
svg .title{font-size:14px;font-weight:600} svg .axis{text-anchor:middle} svg .grid{stroke:#e6e9ed}
"""

COLUMNS = (
    "target",
    "calls",
    "worker µs/call·s",
    "of it user",
    "core",
    "control µs",
    "KiB/call",
    "uplink p50",
    "p99",
    "p99.9 ms",
    "clear p99",
    "first word p99",
    "lead p50",
    "underruns",
    "generator",
    "others",
    "holds",
)


def row(result: Result) -> list[str]:
    """One line of the table, as COLUMNS."""
    cpu, uplink = result["cpu"], result["uplink_ms"]
    return [
        result["target"],
        str(result["calls"]),
        f"{cpu['worker_us']:.0f}",
        f"{cpu['worker_user_us']:.0f}",
        f"{cpu['worker_share']:.0%}",
        f"{cpu['control_us']:.0f}",
        f"{result['memory']['worker_kib_per_call']:.0f}",
        _ms(uplink.get("p50")),
        _ms(uplink.get("p99")),
        _ms(uplink.get("p999")),
        _ms(result["clear_ms"].get("p99")),
        _ms(result["first_word_ms"].get("p99")),
        _ms(result["lead_ms"].get("p50")),
        str(result["underruns"]),
        f"{result['generator'].get('cpu_share', 0):.0%}",
        f"{result['noise']['others_share']:.0%}",
        outcome(result),
    ]


def outcome(result: Result) -> str:
    """`yes`, what was missed, or why the figures do not count."""
    verdict = result["verdict"]
    if verdict["refused"]:
        return "refused: " + "; ".join(verdict["refused"])
    return "yes" if verdict["holds"] else "no: " + "; ".join(verdict["missed"])


def medians(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Median figures of the runs that count, by target and number of calls."""
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        if result["verdict"]["valid"]:
            groups.setdefault((result["target"], result["calls"]), []).append(result)
    return [
        {
            "target": target,
            "calls": calls,
            "runs": len(runs),
            "worker_us": median(run["cpu"]["worker_us"] for run in runs),
            "uplink_p50_ms": _median(runs, "uplink_ms", "p50"),
            "uplink_p99_ms": _median(runs, "uplink_ms", "p99"),
            "uplink_p999_ms": _median(runs, "uplink_ms", "p999"),
            "clear_p99_ms": _median(runs, "clear_ms", "p99"),
            "underruns": median(run["underruns"] for run in runs),
            "kib_per_call": median(run["memory"]["worker_kib_per_call"] for run in runs),
            "holds": all(run["verdict"]["holds"] for run in runs),
        }
        for (target, calls), runs in sorted(groups.items(), key=lambda item: item[0])
    ]


def ratios(found: Sequence[dict[str, Any]]) -> list[str]:
    """The daemon's CPU per call-second against each baseline at the same number of calls."""
    ours = {one["calls"]: one["worker_us"] for one in found if one["target"] == DAEMON}
    return [
        f"{DAEMON} / {one['target']} at {one['calls']} calls: "
        f"{ours[one['calls']] / one['worker_us']:.2f} × the CPU"
        for one in found
        if one["target"] != DAEMON and one["calls"] in ours and one["worker_us"]
    ]


def page(results: Sequence[Result], context: dict[str, Any]) -> str:
    """The whole HTML document."""
    found = medians(results)
    facts = "".join(f"<li>{escape(str(k))}: {escape(str(v))}</li>" for k, v in context.items())
    lines = "".join(f"<li>{escape(line)}</li>" for line in ratios(found))
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    body = "".join(_table_row(result) for result in results)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Tandem load bench</title>'
        f"<style>{_STYLE}</style><h1>Load bench</h1><ul>{facts}</ul>"
        f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
        f"<h2>Ratios</h2><ul>{lines or '<li>no baseline in this run</li>'}</ul>"
        f'<div class="plots">{"".join(_plots(results, found))}</div></html>'
    )


def _table_row(result: Result) -> str:
    verdict = result["verdict"]
    css = "refused" if verdict["refused"] else "" if verdict["holds"] else "missed"
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row(result))
    return f'<tr class="{css}">{cells}</tr>'


def _plots(results: Sequence[Result], found: Sequence[dict[str, Any]]) -> list[str]:
    names = sorted({one["target"] for one in found})

    def against_calls(key: str) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [
                (one["calls"], one[key])
                for one in found
                if one["target"] == name and one[key] is not None
            ]
            for name in names
        }

    latency = {
        f"{name} {label}": points
        for name in names
        for key, label in (("uplink_p50_ms", "p50"), ("uplink_p99_ms", "p99"))
        for points in [against_calls(key)[name]]
    }
    plots = [
        line_chart(
            "CPU per call against calls", "calls", "µs per call-second", against_calls("worker_us")
        ),
        line_chart("Uplink latency", "calls", "ms", latency, log_y=True),
    ]
    ours = [r for r in results if r["target"] == DAEMON and r["verdict"]["valid"]]
    if ours:
        plots += _over_time(ours)
    return plots


def _over_time(ours: Sequence[Result]) -> list[str]:
    """The last run of each number of calls, second by second."""
    by_calls = {result["calls"]: result["over_time"] for result in ours}

    def course(key: str) -> dict[str, list[tuple[float, float]]]:
        return {
            f"{calls} calls": [(one["s"], one[key]) for one in seconds if one[key] is not None]
            for calls, seconds in sorted(by_calls.items())
        }

    return [
        line_chart("Lead at Twilio, mean", "s of the window", "ms", course("lead_mean_ms")),
        line_chart("Lead at Twilio, smallest", "s of the window", "ms", course("lead_min_ms")),
        line_chart("Underruns", "s of the window", "ms of silence", course("underrun_ms")),
        line_chart(
            "Uplink p99 over time", "s of the window", "ms", course("uplink_p99_ms"), log_y=True
        ),
    ]


def _median(runs: Sequence[Result], group: str, key: str) -> float | None:
    values = [run[group][key] for run in runs if key in run[group]]
    return median(values) if values else None


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
