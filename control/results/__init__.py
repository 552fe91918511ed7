"""What becomes of a call after its end: analysis, extractions, costs, and who is told."""

from __future__ import annotations

from control.results.service import ANALYSIS, PRICE, SMS, Results

__all__ = ["ANALYSIS", "PRICE", "SMS", "Results"]
