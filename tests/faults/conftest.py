"""The table of what was played, behind everything that pytest says."""

from __future__ import annotations

from typing import Any

from tests.faults.outcomes import OUTCOMES, Outcome, table


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """All rows of all groups of this run."""
    reports = [
        report
        for kind in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(kind, ())
        if getattr(report, "when", "") == "call"
    ]
    found = [
        Outcome(*outcome)
        for report in sorted(reports, key=lambda report: str(report.nodeid))
        for name, value in report.user_properties
        if name == OUTCOMES
        for outcome in value
    ]
    if found:
        terminalreporter.section("faults: gap until the caller is answered, and what it may be")
        for line in table(found):
            terminalreporter.write_line(line)
