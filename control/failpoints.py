"""The fail points of the control process: see `gateway.failpoints`, which workers use as well."""

from __future__ import annotations

from gateway.failpoints import REACHED_SUFFIX, VARIABLE, reach

__all__ = ["REACHED_SUFFIX", "VARIABLE", "reach"]
