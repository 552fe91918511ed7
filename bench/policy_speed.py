"""How long a decision takes: all rules against a list of rules that do nothing, taking turns in one run.

    python -m bench.policy_speed [--rounds 400]

Prints medians and 99th percentiles in microseconds for an allow and for a deferral, and the ratio of medians.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from datetime import UTC, datetime, timedelta

from policy import RuleResult, evaluate, load_rules
from policy.facts import (
    AgentFacts,
    Attempt,
    Clock,
    Consent,
    Facts,
    ListEntry,
    ProviderPermission,
    ReassignedAnswer,
    Script,
    Spend,
    TenantFacts,
    Traffic,
    Usage,
)

NUMBERS_KEPT = 4096
SETTINGS = {"num_invalid": {"permit_fictitious": True}}


class Nothing:
    """A rule that allows without looking."""

    version = 1

    def __init__(self, number: int) -> None:
        self.id = f"NOTHING-{number}"
        self._result = RuleResult(self.id, 1, "allow", "nothing")

    def __call__(self, _facts: Facts) -> RuleResult:
        return self._result


def marketing(number: str, at: datetime) -> Facts:
    """Marketing into Florida with everything known: the most work that a decision can be."""
    consent = Consent(
        id="con_1",
        seller="Acme",
        channels=frozenset({"voice_ai"}),
        purposes=frozenset({"marketing"}),
        level="written_signed",
        occurred_at=at - timedelta(days=3),
        method="web_form",
        names_automated_voice=True,
        says_not_a_condition=True,
        disclosure_id="d",
        signature="checkbox",
        evidence_ref="e",
    )
    return Facts(
        "outbound",
        "dial",
        "tnt_1",
        "agt_1",
        "+12065550199",
        number,
        at,
        purpose="marketing",
        clock=Clock(True),
        tenant=TenantFacts("active", "Acme", frozenset({"US"}), None, frozenset({"FL", "NY"})),
        agent=AgentFacts("live", Script(True, True, True, True, True, True), True, True),
        from_number_owned=True,
        to_number_is_ours=False,
        consents=(consent,),
        revocations=(),
        platform_block=ListEntry("platform", False),
        dnc_national=ListEntry("us", False, at - timedelta(days=2)),
        dnc_states=(ListEntry("FL", False),),
        reassigned=ReassignedAnswer("no", at - timedelta(days=2)),
        attempts=(Attempt(at - timedelta(days=2)),),
        in_flight=0,
        usage=Usage(starts=(at - timedelta(seconds=30),)),
        spend=Spend(100_000, 0, 0),
        traffic=Traffic(100, 60.0, 0.01, 0.9, 0.0, 0.0, 5),
        provider_permission=ProviderPermission(True, False, False, at),
    )


def measure(rounds: int) -> dict[str, list[float]]:
    """Times of one decision each in microseconds, by what was decided."""
    rules = load_rules(["standard"], SETTINGS, lambda name: name)
    nothing = [Nothing(number) for number in range(len(rules))]
    noon, evening = (datetime(2027, 1, 13, hour, tzinfo=UTC) for hour in (17, 1))
    numbers = [f"+1305555{last:04}" for last in range(100, 200)]
    runs = {
        "nothing": [(nothing, marketing(number, noon)) for number in numbers],
        "allow": [(rules, marketing(number, noon)) for number in numbers],
        "defer": [
            (rules, marketing(number, evening + timedelta(minutes=30))) for number in numbers
        ],
    }
    for name, asked in runs.items():
        outcome = evaluate(*asked[0]).outcome
        assert outcome == ("allow" if name == "nothing" else name), evaluate(*asked[0]).reason
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for done in range(rounds):
        for name, asked in runs.items():
            chosen = asked[done % len(asked)]
            before = time.perf_counter_ns()
            evaluate(*chosen)
            taken[name].append((time.perf_counter_ns() - before) / 1000)
    taken["first time a number is seen"] = fresh(rules, noon, min(rounds, NUMBERS_KEPT))
    return taken


def fresh(rules: object, at: datetime, count: int) -> list[float]:
    """Every number is parsed anew."""
    taken = []
    for last in range(count):
        facts = marketing(f"+1305{200 + last // 10_000}{last % 10_000:04}", at)
        before = time.perf_counter_ns()
        evaluate(rules, facts)  # type: ignore[arg-type]
        taken.append((time.perf_counter_ns() - before) / 1000)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    measure(50)
    gc.collect()
    gc.disable()
    taken = measure(rounds)
    base = statistics.median(taken["nothing"])
    for name, times in taken.items():
        median = statistics.median(times)
        p99 = statistics.quantiles(times, n=100)[98]
        print(
            f"{name:30} median {median:7.1f} us   p99 {p99:7.1f} us   {median / base:5.1f} x nothing"
        )


if __name__ == "__main__":
    main()
