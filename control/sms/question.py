"""What the policy is told of a message before it is asked."""

from __future__ import annotations

import re

from sqlalchemy import Connection

from control.compliance.facts import Asked
from control.sms.settings import SmsProblem, SmsSettings, parse
from control.store import agents, messages, opt_outs
from control.store.messages import MessageRecord
from policy.facts import Sms

_OPT_OUT_TEXT = re.compile(r"\bSTOP\b|\bopt[- ]?out\b|\bunsubscribe\b", re.I)


def question(conn: Connection, message: MessageRecord) -> Asked:
    """May this message leave? Read in one transaction."""
    agent = agents.get(conn, message.agent_id) if message.agent_id else None
    try:
        settings = parse(agent.sms) if agent is not None else SmsSettings()
    except SmsProblem:
        settings = SmsSettings()
    stopped = opt_outs.get(conn, message.tenant_id, message.to_number)
    name = agent.name if agent is not None else ""
    return Asked(
        direction="outbound",
        phase="dial",
        tenant_id=message.tenant_id,
        agent_id=message.agent_id or "",
        from_number=message.from_number,
        to_number=message.to_number,
        call_id=message.call_id,
        channel="sms",
        purpose=settings.purpose,
        sms=Sms(
            sender=settings.sender,
            stopped=stopped is not None and stopped.scope != opt_outs.VOICE,
            is_first=not messages.was_written_to(
                conn, message.tenant_id, message.from_number, message.to_number
            ),
            names_sender=bool(name) and name.casefold() in message.body.casefold(),
            has_opt_out_text=_OPT_OUT_TEXT.search(message.body) is not None,
        ),
    )
