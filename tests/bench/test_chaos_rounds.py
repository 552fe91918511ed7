"""A chaos run in rounds: what is written down, what is played again, what the total says. Nothing is killed here."""

import json
from collections import Counter

import pytest

from bench.chaos.points import POINTS
from bench.chaos.rounds import Book, OtherPlan, divided
from bench.chaos.run import Outcome, Plan

PLAN = Plan(kills=200, named=40, calls=20, seed=201)
PLANS = divided(PLAN, 10)


def outcome(problems=(), points=("dial.queued",)):
    return Outcome(
        worker_kills=14,
        control_kills=6,
        named_kills=list(points),
        seconds=100.0,
        calls=300,
        results={"completed": 250, "cancelled": 50},
        problems=list(problems),
    )


def play(book, plan, **found):
    book.end(book.begin(plan), outcome(**found))


def test_rounds_add_up_to_the_plan_and_reach_every_point():
    """200 and 40 in ten rounds: seeds one after another, the points going on where the round before stopped."""
    assert [plan.seed for plan in PLANS] == list(range(201, 211))
    assert sum(plan.kills for plan in PLANS) == 200
    names = [plan.points[index].name for plan in PLANS for index in range(plan.named)]
    assert names == [POINTS[index % len(POINTS)].name for index in range(40)]
    assert set(Counter(names)) == {point.name for point in POINTS}


@pytest.mark.parametrize("rounds", [0, 3, 7])
def test_rounds_of_unequal_size_are_refused(rounds):
    """Or some kills would silently be left out."""
    with pytest.raises(ValueError, match="equal rounds"):
        divided(PLAN, rounds)


def test_resumed_run_plays_what_has_no_good_verdict_and_adds_it_up(tmp_path):
    """A round that was interrupted and one with a finding are played again; what they were stays in the file."""
    path = tmp_path / "out" / "chaos.json"
    book = Book(path, PLANS, resume=False)
    play(book, PLANS[0])
    play(book, PLANS[1], problems=["call CA1 rang and has no record"])
    book.begin(PLANS[2])

    again = Book(path, PLANS, resume=True)
    assert [plan.seed for plan in again.to_do()] == list(range(202, 211))
    assert again.totals()["problems"] == ["seed 202: call CA1 rang and has no record"]
    for plan in again.to_do():
        play(again, plan, points=("dial.queued", "sms.sent"))

    totals = Book(path, PLANS, resume=True).totals()
    assert totals == json.loads(path.read_text())["totals"]
    assert (totals["rounds_done"], totals["problems"]) == (10, [])
    assert (totals["worker_kills"], totals["control_kills"]) == (140, 60)
    assert totals["named_kills"] == 1 + 9 * 2
    assert totals["points_covered"] == ["dial.queued", "sms.sent"]
    assert totals["results"] == {"completed": 2500, "cancelled": 500}
    assert (totals["former_with_findings"], totals["interrupted"]) == (1, 1)
    assert again.to_do() == []


def test_round_that_was_good_stays_good_when_another_try_of_it_is_interrupted(tmp_path):
    """A verdict is not undone by a try without one."""
    book = Book(tmp_path / "chaos.json", PLANS, resume=False)
    play(book, PLANS[0])
    book.begin(PLANS[0])
    assert PLANS[0] not in book.to_do()
    assert (book.totals()["rounds_done"], book.totals()["interrupted"]) == (1, 1)


def test_run_is_not_resumed_with_other_numbers(tmp_path):
    """Rounds of half the size cannot be added to these."""
    path = tmp_path / "chaos.json"
    play(Book(path, PLANS, resume=False), PLANS[0])
    with pytest.raises(OtherPlan):
        Book(path, divided(PLAN, 20), resume=True)


def test_run_that_is_not_resumed_begins_anew(tmp_path):
    """What is in the file is from another day."""
    path = tmp_path / "chaos.json"
    play(Book(path, PLANS, resume=False), PLANS[0])
    assert Book(path, PLANS, resume=False).to_do() == PLANS
