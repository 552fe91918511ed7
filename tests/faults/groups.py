"""All rows of the fault table: those of a group are played beside each other, in one daemon."""

from __future__ import annotations

from tests.faults import rows_agent, rows_process, rows_rest, rows_store, rows_twilio
from tests.faults.rows import Row

TITLES: dict[str, tuple[Row, ...]] = {
    "agent cannot be reached": rows_agent.UNREACHABLE,
    "agent of another format": rows_agent.FORMATS,
    "agent is odd": rows_agent.ODD,
    "wire to the agent": rows_agent.WIRE,
    "wire to Twilio": rows_twilio.ROWS,
    "processes and host": rows_process.ROWS,
    "store and disk": rows_store.ROWS,
    "REST and webhooks": rows_rest.ROWS,
}
_APART = (rows_process.ROWS, rows_store.ROWS, rows_rest.ROWS)
"""Faults of the whole daemon: each row has one to itself."""
GROUPS: dict[str, tuple[Row, ...]] = {
    title: rows for title, rows in TITLES.items() if rows not in _APART
} | {row.name: (row,) for rows in _APART for row in rows}
SMOKE = (
    "url_500",
    "silent",
    "agent_rst",
    "agent_hole",
    "twilio_rst",
    "twilio_hole",
    "twilio_nonsense",
)
"""The rows that every run of the tests plays: each way in which a call can go on."""
