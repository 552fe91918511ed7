"""Foreign rules: one that raises, blocks or answers nonsense denies with its name and harms nothing else."""

import contextvars
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from control import plugins
from control.plugins import Watched
from policy import Facts, RuleResult, evaluate

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
FACTS = Facts("outbound", "check", "tnt_default", "agt_1", "+14155550199", "+14155550100", NOW)
LIMIT_S = 0.05


class Rule:
    """Does what it is told when it is asked."""

    id = "MY-RULE"
    version = 3

    def __init__(self, does):
        self._does = does

    def __call__(self, facts):
        return self._does(self)


def allow(rule):
    return RuleResult(rule.id, rule.version, "allow", "fine")


def fails(rule):
    raise RuntimeError("no")


def leaves(rule):
    raise SystemExit(3)


class Blocked:
    """Holds every question until `go` is set."""

    def __init__(self):
        self.go = threading.Event()
        self.asked = 0

    def __call__(self, rule):
        self.asked += 1
        self.go.wait(20)
        return allow(rule)


def decide(*rules):
    return evaluate(rules, FACTS)


def test_rule_that_answers_is_the_rule():
    """Nothing of its result is changed."""
    decision = decide(Watched(Rule(allow)))
    assert decision.allowed
    assert decision.rules[0].id == "MY-RULE"


@pytest.mark.parametrize(
    ("concerns", "facts", "asked"),
    [
        ({}, {}, True),
        ({"directions": {"outbound"}}, {}, True),
        ({"directions": ["inbound", "transfer"]}, {}, False),
        ({"directions": {"outbound"}, "tenants": {"tnt_2"}}, {}, False),
        ({"tenants": ("tnt_default",)}, {}, True),
        ({"tenants": {"tnt_default"}}, {"tenant_id": "tnt_2"}, False),
        ({"directions": {"outbound"}}, {"direction": "inbound"}, False),
    ],
)
def test_rule_is_asked_only_of_what_it_says_that_it_concerns(concerns, facts, asked):
    """Also one that raises: of other calls it cannot refuse any."""
    rule = Rule(fails)
    for name, value in concerns.items():
        setattr(rule, name, value)
    decision = evaluate([Watched(rule)], replace(FACTS, **facts))
    reason = "rule_error: RuntimeError" if asked else "not_applicable"
    assert (decision.allowed, decision.rules[0].reason) == (not asked, reason)


@pytest.mark.parametrize(
    "concerns",
    [{"directions": {"outward"}}, {"directions": "outbound"}, {"tenants": set()}, {"tenants": {1}}],
)
def test_rule_that_says_it_wrongly_is_refused_at_the_start(concerns):
    """Taken for "nothing", it would let every call through."""
    rule = Rule(allow)
    for name, value in concerns.items():
        setattr(rule, name, value)
    with pytest.raises(ValueError, match="of the rule"):
        Watched(rule)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("does", "why"),
    [
        (fails, "rule_error: RuntimeError"),
        (leaves, "rule_error: RuntimeError"),
        (lambda rule: None, "rule_invalid: returned NoneType"),
        (lambda rule: "allow", "rule_invalid: returned str"),
        (lambda rule: RuleResult("OTHER", 3, "allow", "x"), "rule_invalid: result of another rule"),
        (lambda rule: RuleResult(rule.id, 3, "maybe", "x"), "rule_invalid: unknown outcome"),
    ],
)
def test_rule_that_is_wrong_denies_with_its_name(does, why):
    """And it is asked again the next time: it is wrong, not stuck."""
    rule = Watched(Rule(does), LIMIT_S)
    for _ in range(2):
        decision = decide(rule, Watched(Rule2(), LIMIT_S))
        assert decision.outcome == "deny"
        assert decision.reason == f"MY-RULE: {why}"
        assert decision.rules[1].outcome == "allow"


class Rule2:
    id = "MY-OTHER"
    version = 1

    def __call__(self, facts):
        return RuleResult(self.id, self.version, "allow", "fine")


def test_rule_that_blocks_is_out_of_service_until_it_comes_back():
    """One thread and one time limit; then it denies at once, and others go on."""
    blocked = Blocked()
    rule = Watched(Rule(blocked), LIMIT_S)
    before = threading.active_count()
    first = decide(rule, Watched(Rule2()))
    assert first.reason == "MY-RULE: rule_blocked: no_answer_in_time"
    assert first.rules[1].outcome == "allow"
    begin = time.perf_counter()
    for _ in range(100):
        assert decide(rule).reason == "MY-RULE: rule_blocked: out_of_service"
    assert time.perf_counter() - begin < 100 * LIMIT_S
    assert blocked.asked == 1
    assert threading.active_count() <= before + 2
    blocked.go.set()
    for _ in range(500):
        if decide(rule).allowed:
            return
        time.sleep(0.01)
    pytest.fail("the rule did not come back")


def test_rule_that_blocks_asked_from_many_threads_costs_one_thread():
    """Whoever asks while it is stuck is denied; nobody waits longer than the limit."""
    blocked = Blocked()
    rule = Watched(Rule(blocked), LIMIT_S)
    outcomes = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(decide(rule).outcome)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert outcomes == ["deny"] * 20
    assert blocked.asked == 1
    blocked.go.set()


class Dawdles:
    """Answers, but slowly, and always puts it off: the engine asks it again and again."""

    id, version = "TEST-SLOW", 1

    def __call__(self, facts):
        time.sleep(0.03)
        later = facts.at + timedelta(minutes=1)
        return RuleResult(self.id, self.version, "defer", "later", {}, later)


def test_slow_plug_in_has_one_budget_for_a_decision_and_is_named():
    """However often the look ahead asks it, a decision waits for it no longer than its timeout."""
    contextvars.copy_context().run(_ask_often)


def _ask_often():
    plugins.begin_decision()
    slow = plugins.Watched(Dawdles(), 0.1)
    asked = [slow(replace(FACTS, at=NOW + timedelta(minutes=n))) for n in range(40)]
    in_time = [result for result in asked if result.outcome == "defer"]
    assert len(in_time) < 10
    assert {(one.id, one.reason) for one in asked[len(in_time) + 1 :]} == {
        ("TEST-SLOW", "rule_blocked: time_used_up")
    }
    plugins.begin_decision()  # the next decision, of another agent: it has its whole time again
    while slow._is_stuck:
        time.sleep(0.001)
    assert slow(FACTS).outcome == "defer"
