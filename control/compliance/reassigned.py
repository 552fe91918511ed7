"""Asks the reassigned-numbers database before a call is decided, through a plug-in of the operator's.

`policy.reassigned` names `module:object`, a function `(e164, since) -> "yes" | "no" | "no_data"`: was the number
disconnected on or after that day? It is asked for US numbers whose consent is older than the answer to such a question
stays good (`rnd_stale.max_age_days`), in a thread, with a deadline. Answers are kept with their day; what raises, is
late or says anything else is kept as `error`, which refuses marketing and lets others pass with a note (47 CFR
64.1200(m)).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import trio

from control import log
from control.compliance.facts import region_of
from control.store import Store, consents
from control.store.consents import ReassignedRecord
from policy import Facts, fitting, packaged, verified_at

Ask = Callable[[str, date], Any]

ANSWER_TIMEOUT_S = 2.0
THREADS = 8
"""Questions at once. A thread that was given up keeps its place until the plug-in lets it go."""
ANSWERS = frozenset({"yes", "no", "no_data"})
PHASES = frozenset({"accept", "dial", "check"})
"""Not `answer`: somebody has picked up and waits."""
QUIET = timedelta(seconds=60)
"""How long a number is left alone after an error."""
QUIET_MAX = 10_000
_ALWAYS = frozenset({"ME"})
"""10 M.R.S. 1499-B: whatever the consent's age."""


@dataclass(slots=True)
class Reassigned:
    """One per process."""

    plug_in: Ask
    max_age: timedelta = timedelta(days=30)
    timeout_s: float = ANSWER_TIMEOUT_S
    _threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(THREADS))
    _failed: OrderedDict[tuple[str, str], datetime] = field(default_factory=OrderedDict)

    async def refresh(self, store: Store, known: Facts, now: datetime) -> bool:
        """Ask if an answer is due, and keep it; whether there is a new one. Raises StoreUnavailable."""
        since = self.due(known)
        whose = (known.tenant_id, known.customer_number)
        if since is None or now - self._failed.get(whose, now - QUIET) < QUIET:
            return False
        answer = await self._answer(known.customer_number, since)
        if answer == "error":
            self._failed[whose] = now
            while len(self._failed) > QUIET_MAX:
                self._failed.popitem(last=False)
        record = ReassignedRecord(*whose, answer, now, since.isoformat())
        await store.write(partial(consents.add_answer, record=record))
        return True

    def due(self, known: Facts) -> date | None:
        """Since which day to ask: that of the newest consent or contact; None when no answer is wanted."""
        if known.direction != "outbound" or known.phase not in PHASES:
            return None
        law = packaged()
        if not law.pack_at(known.at).is_federal(region_of(known.customer_number)):
            return None
        grants = fitting(known)
        if not grants:
            return None  # there is nothing to rely on
        verified = max(verified_at(one, known) for one in grants)
        is_young = known.at - verified <= self.max_age
        if is_young and not _ALWAYS & set(law.place(known).states):
            return None
        answer = known.reassigned
        if answer is not None and answer.answer in ANSWERS:
            is_about_them = answer.for_date is None or answer.for_date <= verified.date()
            if is_about_them and known.at - answer.asked_at <= self.max_age:
                return None
        return verified.date()

    async def _answer(self, number: str, since: date) -> str:
        said: Any = None
        problem = "no_answer_in_time"
        with trio.move_on_after(self.timeout_s):
            try:
                said = await trio.to_thread.run_sync(
                    self.plug_in, number, since, abandon_on_cancel=True, limiter=self._threads
                )
                problem = "invalid_answer"
            except Exception as error:  # noqa: BLE001  # boundary: foreign code
                problem = type(error).__name__
        if isinstance(said, str) and said in ANSWERS:
            return said
        log.event("reassigned_unanswered", level="error", number=number, problem=problem)
        return "error"
