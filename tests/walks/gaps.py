"""Holes in what a simulated caller heard, and whose they are."""

from __future__ import annotations


def unexplained_gaps(call, record):
    """Holes in what the caller heard that neither a late simulator nor a late worker accounts for."""
    late_ms = record["media"]["agent_audio"]["late_underrun_ms"]
    late_ms += max(stream.times.late_max_ms for stream in call.streams)
    return [gap for gap in call.underruns if gap.ms > late_ms]
