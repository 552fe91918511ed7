"""Work that survives the process: items in the store, each handled at least once.

    outbox.handle("sms", send, schedule=steps(5, 30, 120))     # in the composition root
    store.outbox.add(conn, kind="sms", key=call_id, …)         # inside the transaction that makes it necessary
    outbox.wake()                                              # after it, if it shall not wait for the next look

A handler returns None when the work is done, the moment at which it wants to be asked again, or `Settled` when it
has settled the item itself, in the transaction that did the work. It raises
TryAgain when it did not work this time and GiveUp when it never will. Killed in between, it is run again, so
it writes its intent down before it does what cannot be undone.
"""

from __future__ import annotations

from control.outbox.runner import GiveUp, Handler, Outbox, Schedule, Settled, TryAgain, steps
from control.store.outbox import OutboxItem

__all__ = ["GiveUp", "Handler", "Outbox", "OutboxItem", "Schedule", "Settled", "TryAgain", "steps"]
