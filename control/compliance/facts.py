"""What the rules may know of a call: read in one transaction, then frozen.

Whatever cannot be read stays None, and the rule that needs it refuses and names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from typing import Any, get_args

from sqlalchemy import BindParameter, Connection, bindparam, or_, select

from control import log
from control.compliance import counters, platform_stop, profile
from control.compliance.number_file import ListUnreadable, Shelf
from control.compliance.permissions import as_facts
from control.compliance.script import script_of
from control.routing import inbound as routing
from control.routing.model import DAY_MINUTES, DAYS
from control.stats import health
from control.store import (
    agents,
    calls,
    consents,
    dnc,
    numbers,
    opt_outs,
    permissions,
    routes,
    stats,
    tenants,
)
from control.store.prepared import Prepared
from control.store.records import AgentRecord, OptOutRecord
from control.store.tables.core import agents as agents_table
from control.store.tables.numbers import numbers as numbers_table
from control.store.tables.provisioning import agent_numbers
from policy import Facts, OptOut
from policy.facts import (
    AgentFacts,
    Channel,
    Consent,
    Direction,
    Hours,
    Inbound,
    ListEntry,
    Location,
    Phase,
    Purpose,
    ReassignedAnswer,
    Revocation,
    Sms,
)
from policy.loader import packaged

PURPOSES: frozenset[str] = frozenset(get_args(Purpose))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked: the parts of the facts that the store does not know."""

    direction: Direction
    phase: Phase
    tenant_id: str
    agent_id: str
    from_number: str
    to_number: str
    call_id: str | None = None
    """The call itself, so that it does not count against itself."""
    channel: Channel = "voice"
    purpose: str | None = None
    subject: str | None = None
    debt_id: str | None = None
    location: Location | None = None
    queue_wait_s: float = 0.0
    transfer_target_listed: bool | None = None
    sms: Sms | None = None

    @property
    def customer_number(self) -> str:
        return self.from_number if self.direction == "inbound" else self.to_number


def with_meaning(asked: Asked, metadata: Mapping[str, Any]) -> Asked:
    """With the `purpose`, `subject`, `debt_id` and `called_party` of a call's metadata, where nothing else says it."""

    def text(name: str) -> str | None:
        value = metadata.get(name)
        return value if isinstance(value, str) and value else None

    return replace(
        asked,
        purpose=asked.purpose or text("purpose"),
        subject=asked.subject or text("subject"),
        debt_id=asked.debt_id or text("debt_id"),
        location=asked.location or _said(metadata.get("called_party")),
    )


def _said(kept: Any) -> Location | None:
    """Where the one who asked for the call says that the called party is; as of the moment it was said."""
    if not isinstance(kept, Mapping) or not kept:
        return None
    as_of = kept.get("as_of")
    return Location(
        zone=kept.get("timezone"),
        zone_source="request",
        zone_as_of=datetime.fromisoformat(as_of) if isinstance(as_of, str) else None,
        postcode=kept.get("postcode"),
        state=kept.get("state"),
    )


def bare(asked: Asked, at: datetime) -> Facts:
    """When nothing could be read."""
    return Facts(
        direction=asked.direction,
        phase=asked.phase,
        tenant_id=asked.tenant_id,
        agent_id=asked.agent_id,
        from_number=asked.from_number,
        to_number=asked.to_number,
        at=at,
        channel=asked.channel,
        store_readable=False,
        queue_wait_s=asked.queue_wait_s,
        transfer_target_listed=asked.transfer_target_listed,
        sms=asked.sms,
    )


def assemble(
    conn: Connection, asked: Asked, at: datetime, read_at: datetime, shelf: Shelf
) -> Facts:
    """Everything, at the instant `at` (another than now in a check). Counters are as of `read_at`."""
    asked = _completed(conn, asked)
    known = {"store_readable": True, "read_at": read_at, **_people(conn, asked)}
    agent = agents.get(conn, asked.agent_id) if asked.agent_id else None
    granted = _tenant(conn, asked.tenant_id)
    if granted is None:
        return replace(bare(asked, at), **known)
    own, tenant = granted
    if platform_stop.read(conn).is_stopped:
        tenant = replace(tenant, is_stopped=True)
    purpose = asked.purpose or (_setting(agent, "purpose") if agent else None)
    subject = asked.subject or (_setting(agent, "subject") if agent else None)
    known |= {
        "tenant": tenant,
        "agent": _agent(agent, own),
        "purpose": purpose if purpose in PURPOSES else None,
        "subject": subject,
        "debt_id": asked.debt_id,
    }
    if asked.direction == "inbound":
        known["inbound"] = _inbound(conn, asked.to_number, known["platform_block"])
    else:
        known |= _lists(conn, asked, shelf)
        known |= _traffic(conn, asked, subject, own, read_at)
    # At once: of forty fields a copy for each part of them costs more than many a question.
    return replace(bare(asked, at), **known)


def _inbound(conn: Connection, to_number: str, blocked: ListEntry | None) -> Inbound:
    """Whether the caller is let in, and the opening hours that the number's routes go by."""
    agent, number = agents.by_number(conn, to_number), routes.get(conn, to_number)
    if agent is not None and number is not None and number.tenant_id != agent.tenant_id:
        number = None  # left over from a former owner of the number
    setting = routing.setting_of(agent, number, to_number)
    zone = getattr(setting.zone, "key", None)
    return Inbound(bool(blocked and blocked.is_listed), _opening_hours(setting.hours), zone)


def _opening_hours(
    hours: Mapping[str, Sequence[tuple[int, int]]] | None,
) -> tuple[Hours, ...] | None:
    """As the rules know them: a span past midnight is two, the second on the next day."""
    if hours is None:
        return None
    found = []
    for day, spans in hours.items():
        weekday = DAYS.index(day)
        for begin, end in spans:
            found.append(Hours(frozenset({weekday}), begin, min(end, DAY_MINUTES)))
            if end > DAY_MINUTES:
                found.append(Hours(frozenset({(weekday + 1) % 7}), 0, end - DAY_MINUTES))
    return tuple(found)


def _completed(conn: Connection, asked: Asked) -> Asked:
    """What the call is about is kept with its record."""
    metadata = calls.metadata_of(conn, asked.call_id) if asked.call_id else None
    return asked if metadata is None else with_meaning(asked, metadata)


def _people(conn: Connection, asked: Asked) -> dict[str, Any]:
    """What the person said: consents, requests to stop, where they are. Fields of `Facts`, as of the next two."""
    number, tenant_id = asked.customer_number, asked.tenant_id
    opt_out = opt_outs.get(conn, tenant_id, number)
    grants = consents.of_number(conn, tenant_id, number)
    block = dnc.get_block(conn, number)
    answer = consents.newest_answer(conn, tenant_id, number)
    return {
        "opt_out": None if opt_out is None else _opt_out(opt_out),
        "consents": tuple(_consent(one) for one in grants),
        "revocations": tuple(
            Revocation(one.occurred_at, one.source)
            for one in consents.revocations_of(conn, tenant_id, number)
        ),
        "platform_block": ListEntry("platform", block is not None),
        "reassigned": None if answer is None else _answer(answer),
        "location": _merged(asked.location, _location(grants)),
    }


def _opt_out(record: OptOutRecord) -> OptOut:
    scope = {"scope": record.scope} if record.scope else {}
    return OptOut(record.e164, record.created_at, record.source, **scope)


def _consent(record: consents.ConsentRecord) -> Consent:
    return Consent(
        id=record.id,
        seller=record.seller,
        channels=frozenset(record.channels),
        purposes=frozenset(record.purposes),
        level=record.level,  # type: ignore[arg-type]  # checked on the way in
        occurred_at=record.occurred_at,
        expires_at=record.expires_at,
        revoked_at=record.revoked_at,
        method=record.method,
        names_automated_voice=record.names_automated_voice,
        says_not_a_condition=record.says_not_a_condition,
        disclosure_id=record.disclosure_id,
        signature=record.signature,
        evidence_ref=record.evidence_ref,
        names_toll_free=record.names_toll_free,
        last_verified_at=record.last_verified_at,
    )


def _answer(record: consents.ReassignedRecord) -> ReassignedAnswer:
    for_date = date.fromisoformat(record.for_date) if record.for_date else None
    return ReassignedAnswer(record.answer, record.asked_at, for_date)  # type: ignore[arg-type]


def _location(grants: list[consents.ConsentRecord]) -> Location:
    """Where the person said they are, with the newest grant that says so."""
    for grant in reversed(grants):
        if grant.location:
            kept = grant.location
            return Location(
                zone=kept.get("zone"),
                zone_source=kept.get("source") or f"consent {grant.id}",
                zone_as_of=grant.last_verified_at or grant.occurred_at,
                postcode=kept.get("postcode"),
                state=kept.get("state"),
                country=kept.get("country"),
            )
    return Location()


def _merged(said: Location | None, known: Location) -> Location:
    """What a request says goes before what a consent does, part by part: a zone alone takes no state away."""
    if said is None:
        return known
    if said.postcode or (said.state and said.state != known.state):
        return replace(said, as_of=said.zone_as_of)  # another address than the one of then
    zone = said if said.zone else known
    return Location(
        zone=zone.zone,
        zone_source=zone.zone_source,
        zone_as_of=zone.zone_as_of,
        postcode=known.postcode,
        state=said.state or known.state,
        country=known.country,
        as_of=known.zone_as_of,
    )


def _tenant(conn: Connection, tenant_id: str) -> tuple[profile.Profile, Any] | None:
    record = tenants.get(conn, tenant_id)
    if record is None:
        return None
    own = profile.read(dnc.get_profile(conn, tenant_id))
    return own, profile.as_facts(own, record.status, record.name)


def _agent(record: AgentRecord | None, own: profile.Profile) -> AgentFacts | None:
    if record is None:
        return None
    return AgentFacts(
        state=record.status,
        script=script_of(record, own),
        records_audio=bool(record.settings.get("record")),
        transcribes=True,
    )


def _setting(agent: AgentRecord, name: str) -> str | None:
    value = agent.settings.get(name)
    return value if isinstance(value, str) else None


def _lists(conn: Connection, asked: Asked, shelf: Shelf) -> dict[str, Any]:
    lists = dnc.all_lists(conn)
    records = dnc.binding(lists, asked.tenant_id)
    shelf.keep_only(record.file_name for record in lists)
    entries: list[ListEntry] = []
    for record in records:
        try:
            is_listed = asked.to_number in shelf.file(record.file_name)
        except (ListUnreadable, ValueError) as error:
            # The list is not known then, and the rules that need it refuse.
            log.event("list_unreadable", level="error", list=record.list_id, error=str(error))
            continue
        entries.append(ListEntry(record.list_id, is_listed, record.as_of, record.sha256[:16]))
    national = next((one for one in entries if one.list_id == dnc.NATIONAL), None)
    states = tuple(one for one in entries if one.list_id != dnc.NATIONAL)
    return {"dnc_national": national, "dnc_states": states}


def _traffic(
    conn: Connection, asked: Asked, subject: str | None, own: profile.Profile, now: datetime
) -> dict[str, Any]:
    tenant_id, number, but = asked.tenant_id, asked.to_number, asked.call_id
    limits = {
        "call_limit_micro_usd": own.call_limit_micro_usd,
        "day_limit_micro_usd": own.day_limit_micro_usd,
        "month_limit_micro_usd": own.month_limit_micro_usd,
    }
    kept = permissions.get(conn, tenant_id)
    permission, risk = as_facts(kept, region_of(number), number)
    campaign = health.campaign_of(subject, asked.agent_id)
    figures = health.traffic(conn, tenant_id, now, campaign=campaign)
    of_number = stats.calls_of_hour(conn, tenant_id, now, asked.from_number)
    return {
        "from_number_owned": _owns(conn, tenant_id, asked.from_number),
        "to_number_is_ours": _is_ours(conn, number),
        "attempts": counters.attempts(conn, tenant_id, number, now, but),
        "in_flight": counters.in_flight(conn, tenant_id, number, now, but),
        "usage": counters.usage(conn, tenant_id, number, now, but, region_of),
        "spend": counters.spend(conn, tenant_id, now, but, limits),
        "provider_permission": permission,
        "prefix_risk": risk,
        "traffic": replace(figures, caller_id_calls_hour=of_number),
    }


def _owns(conn: Connection, tenant_id: str, number: str) -> bool:
    record = numbers.active(conn, number)
    if record is not None:
        return record.tenant_id == tenant_id and record.capabilities.get("voice", True)
    agent = agents.by_number(conn, number)
    return agent is not None and agent.tenant_id == tenant_id


def _is_ours(conn: Connection, number: str) -> bool:
    """A number of anybody on this gateway: a call to it would come back to us."""
    return bool(_OURS.scalar(conn, {"number": number}))


_NUMBER: BindParameter[str] = bindparam("number")
_OURS = Prepared(
    select(
        or_(
            select(numbers_table.c.id)
            .where(numbers_table.c.e164 == _NUMBER, numbers_table.c.status == numbers.ACTIVE)
            .exists(),
            select(agents_table.c.id)
            .where(agents_table.c.number_e164 == _NUMBER, agents_table.c.status != "closed")
            .exists(),
            select(agent_numbers.c.id).where(agent_numbers.c.e164 == _NUMBER).exists(),
        )
    )
)


@lru_cache(maxsize=10_000)
def region_of(number: str) -> str | None:
    """`US`, `CA`, … of a number; None for what is none."""
    return packaged().plan.destination(number).region
