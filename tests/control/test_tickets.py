"""Tickets: once, for a short time, and the reason when refused."""

from __future__ import annotations

import pytest

from control import tickets
from control.tickets import TicketRefused, Tickets


class _Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return _Clock()


@pytest.fixture
def book(clock):
    return Tickets(clock)


def _refusal(book, ticket):
    with pytest.raises(TicketRefused) as caught:
        book.redeem(ticket)
    return caught.value.why, caught.value.status


def test_redeem_once_admits_second_time_used(book):
    """A ticket admits one stream."""
    ticket = book.issue("call_1", 20.0)
    assert book.redeem(ticket) == "call_1"
    assert _refusal(book, ticket) == ("used", 410)


def test_redeem_unknown_refused(book):
    """Nobody issued it."""
    assert _refusal(book, "guess") == ("unknown", 404)


@pytest.mark.parametrize(("later_s", "expired"), [(19.999, False), (20.0, True)])
def test_redeem_at_its_end_expires(book, clock, later_s, expired):
    """Just before the end it admits, at the end it does not."""
    ticket = book.issue("call_1", 20.0)
    clock.now += later_s
    if expired:
        assert _refusal(book, ticket) == ("expired", 410)
    else:
        assert book.redeem(ticket) == "call_1"


def test_revoke_makes_it_expired(book):
    """A revoked ticket admits nothing."""
    ticket = book.issue("call_1", 20.0)
    book.revoke(ticket)
    book.revoke("never issued")
    assert _refusal(book, ticket) == ("expired", 410)


def test_issue_tickets_are_long_and_url_safe(book):
    """A ticket can stand in a path and cannot be guessed."""
    issued = {book.issue("call_1", 20.0) for _ in range(100)}
    assert len(issued) == 100
    assert all(len(ticket) >= 32 and ticket.replace("-", "").replace("_", "").isalnum()
               for ticket in issued)  # fmt: skip


def test_issue_forgets_old_tickets(book, clock):
    """What ended long ago is unknown again, and the memory shrinks."""
    old = [book.issue("call_1", 20.0) for _ in range(10)]
    clock.now += 20.0 + tickets.REMEMBER_S + 1.0
    book.issue("call_2", 20.0)
    assert len(book) == 1
    assert _refusal(book, old[0]) == ("unknown", 404)


def test_issue_full_book_drops_the_oldest(book, monkeypatch):
    """The bound holds."""
    monkeypatch.setattr(tickets, "TICKETS_MAX", 3)
    first, *rest = [book.issue("call_1", 20.0) for _ in range(4)]
    assert len(book) == 3
    assert _refusal(book, first) == ("unknown", 404)
    assert [book.redeem(ticket) for ticket in rest] == ["call_1"] * 3
