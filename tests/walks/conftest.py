"""Behind every walk: whatever the daemon asked the providers is in their own OpenAPI documents, when they are at hand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from bench import rig as rigs
from tests import provider_specs

SAME_MAX = 20
"""So many requests of one kind are looked at: a thousand alike tell nothing more, and take long."""
_NAMED = re.compile(r"[A-Z]{2}[0-9a-f]{32}|(agent|conv|kb|tool|cvtkn)_\w+|\+?\d{4,}")


@pytest.fixture(autouse=True)
def documented_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a walk for a request that no document knows; does nothing without `TANDEM_SPECS`."""
    closed: list[rigs.Rig] = []
    monkeypatch.setattr(rigs, "on_close", closed.append)
    yield
    if closed and provider_specs.are_at_hand():
        faults = {fault for rig in closed for fault in faults_of(rig)}
        assert not faults, "\n".join(sorted(faults))


def faults_of(rig: rigs.Rig) -> Iterator[str]:
    seen: Counter[tuple[str, ...]] = Counter()
    for request, response in rig.twilio.rest.exchanges:
        names = sorted({name for name, _ in (*request.query, *request.form)})
        kind = (request.method, _NAMED.sub("*", request.path), str(response.status), *names)
        seen[kind] += 1
        if seen[kind] <= SAME_MAX:
            yield from provider_specs.faults_of(
                request.method, request.target, request.body, response.status, response.body
            )
    for asked in rig.elevenlabs.requests:
        yield from provider_specs.elevenlabs_faults(asked.method, asked.path, asked.query)
