"""What a check of `tandem doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `advice` says what to do; empty when there is nothing to do."""

    check: str
    status: Status
    text: str
    advice: str = ""

    def line(self) -> str:
        """For a terminal."""
        told = f"{self.status:<4} {self.check}: {self.text}"
        return f"{told} -> {self.advice}" if self.advice else told


def ok(check: str, text: str) -> Finding:
    return Finding(check, "ok", text)


def warn(check: str, text: str, advice: str) -> Finding:
    return Finding(check, "warn", text, advice)


def fail(check: str, text: str, advice: str) -> Finding:
    return Finding(check, "fail", text, advice)
