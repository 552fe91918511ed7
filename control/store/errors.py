"""What can go wrong in the store, for those who call it. Nothing of SQLAlchemy leaks out."""

from __future__ import annotations


class StoreError(Exception):
    """Base of everything the store raises on purpose."""


class StoreUnavailable(StoreError):
    """The database cannot be used now, or did not answer in time.

    After a write that ran into its deadline the outcome is not known.
    """


class StoreIncompatible(StoreUnavailable):
    """The database was written by a later version of this program."""


class RecordNotFound(StoreError):
    """There is no such record to change."""


class NumberTaken(StoreError):
    """Another agent, not closed, has this telephone number."""

    def __init__(self, agent_id: str | None) -> None:
        super().__init__(f"the number belongs to {agent_id or 'another agent'}")
        self.agent_id = agent_id


class BadCursor(StoreError, ValueError):
    """The cursor of a list is not one that the store gave out."""
