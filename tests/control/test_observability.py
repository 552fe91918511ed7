"""Every metric that the dashboard and the alert rules name is one that the daemon has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control.metrics import Metrics
from control.stats import gauges
from gateway.mediaplane import MediaPlane

FOLDER = Path(__file__).parents[2] / "docs" / "observability"
FILES = ("grafana-dashboard.json", "alerts.yml")
NAME = re.compile(r"\btandem_[a-z0-9_]+")


class Worker:
    """A worker's heartbeat with the real plane's counters."""

    worker_id = "w1"
    calls = 1

    def __init__(self) -> None:
        plane = MediaPlane(leg_write_max_bytes=1000)
        self.counters, self.timings, self.admits = plane.report(), plane.timings(), True


def known_names() -> set[str]:
    worker = Worker()
    page = Metrics("1").render([worker]).decode()
    names = set()
    for family in text_string_to_metric_families(page):
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        names |= {family.name + end for end in ends.get(family.type, ("",))}
    return names


@pytest.mark.parametrize("file", FILES)
async def test_metrics_that_are_named_exist(file):
    """A panel of a metric that was renamed is an empty panel, and an alert on it never fires."""
    named = set(NAME.findall((FOLDER / file).read_text()))
    assert len(named) >= 10
    assert named <= known_names()


def test_dashboard_is_one_that_grafana_reads():
    """Every panel has a place, a title and queries; ids are unique; no data source is fixed."""
    board = json.loads((FOLDER / FILES[0]).read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["targets"] and panel["title"] and panel["gridPos"] for panel in panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}


def test_report_of_a_call_says_who_was_late():
    """Underruns count for the agent or for us, also those of agent legs before a resume."""
    metrics = Metrics()
    media = {
        "barge_ins": 2,
        "first_audio_ms": 320,
        "agent_audio": {"underruns": 3, "late_underruns": 1},
        "caller_audio": {"aged_frames": 5},
        "before_resume": [{"agent_audio": {"underruns": 4}}],
    }
    gauges.count_call(metrics, media, {"by": "agent", "mode": "warm", "status": "completed"})
    gauges.count_call(metrics, {}, None)
    page = metrics.render().decode()
    for line in (
        'tandem_playout_underruns_total{blame="agent"} 7.0',
        'tandem_playout_underruns_total{blame="gateway"} 1.0',
        "tandem_barge_ins_total 2.0",
        "tandem_caller_audio_aged_frames_total 5.0",
        'tandem_transfers_total{by="agent",mode="warm",status="completed"} 1.0',
        'tandem_first_audio_seconds_bucket{le="0.35"} 1.0',
    ):
        assert line in page, line
