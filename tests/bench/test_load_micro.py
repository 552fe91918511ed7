"""Every stage of the micro-bench does its work; how fast is not asked here."""

from __future__ import annotations

from bench import micro


def test_micro_stages_run_and_cost_something() -> None:
    """A stage that does nothing would be the fastest of all."""
    with micro.connection() as (here, there):
        for name, work in micro.stages(here, there).items():
            assert micro.measure(work, 0.0) > 0.0, name
