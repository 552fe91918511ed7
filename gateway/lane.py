"""Whether a call's usual audio goes past its bridge. A shell around the intake's lanes; see `intake.py`."""

from __future__ import annotations

from gateway.intake import Intake
from gateway.planecall import PlaneCall


def choose(intake: Intake, call: PlaneCall) -> None:
    """The usual audio goes past the bridge, both ways, while nothing speaks against it."""
    agent, caller = call.agent, call.caller
    stream_sid = call.bridge.express_sid
    if stream_sid is None or agent is None or caller is None or agent.pending or caller.pending:
        leave(intake, call)
    elif not call.is_express:
        call.is_express = True
        bridge = call.bridge
        intake.join(
            caller.fd,
            agent.fd,
            agent.lane_write,
            bridge.flow,
            stream_sid,
            bridge.uplink.fir,
            bridge.agent_hears_pcm,
            call,
        )
        bridge.outlet.open(caller.fd, stream_sid)


def leave(intake: Intake, call: PlaneCall) -> None:
    """Everything goes through the bridge again. Before a socket of the call is closed it has to be left."""
    if call.is_express:
        call.is_express = False
        call.bridge.outlet.close()
        if call.caller is not None:
            intake.part(call.caller.fd)
