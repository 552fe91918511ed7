"""Faults to order: REST answers that fail, come late, or never come. Pure."""

from __future__ import annotations

from dataclasses import dataclass

REAL_LATENCY_S = 0.35
"""For `latency_s` of a simulator, when times shall be true: a REST request to Twilio takes 0.3 s and more,
a purchase up to a few seconds; so every request is given this long."""


@dataclass(slots=True)
class Fault:
    """What to do to the next `times` requests of `method` below `path_prefix`."""

    method: str
    path_prefix: str
    times: int
    status: int = 0
    """Answer with this HTTP status instead of acting; 0 = act normally."""
    code: int = 20500
    message: str = ""
    delay_s: float = 0.0
    lose: bool = False
    """Close the connection instead of answering."""
    acts_first: bool = False
    """With `status`: act, and then say that it has failed."""
    acted: bool = True
    """With `lose` or `delay_s`: act before the loss or the delay, so that only the answer suffers."""

    def matches(self, method: str, path: str, account_prefix: str) -> bool:
        """Whether this fault is for the request; the prefix may leave out `/2010-04-01/Accounts/AC…`."""
        if self.times <= 0 or self.method not in ("*", method):
            return False
        wanted = "/" + self.path_prefix.lstrip("/")
        return path.startswith(wanted) or path.removeprefix(account_prefix).startswith(wanted)


class Faults:
    """The faults in force, first ordered first used."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put one at the end of the queue."""
        self._faults.append(fault)

    @property
    def unused(self) -> list[str]:
        """What was ordered and has not happened (yet)."""
        return [f"{one.method} {one.path_prefix}" for one in self._faults if one.times > 0]

    def take(self, method: str, path: str, account_prefix: str) -> Fault | None:
        """The fault for this request, used up by one."""
        for fault in self._faults:
            if fault.matches(method, path, account_prefix):
                fault.times -= 1
                return fault
        return None
