"""A tool request of an agent: checked, run under a deadline, answered with a result or with what is wrong.

The agent waits while a tool runs, and the caller hears nothing: everything here has a bound, and every request
that expects an answer gets exactly one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from pydantic import ValidationError

from control import log
from control.calls import LiveCall
from control.office import Office
from control.store import StoreError, StoreUnavailable
from control.tools.definitions import TOOLS, Parameters
from gateway.link import ToolRequest

AT_ONCE_MAX = 64
"""Tools that run at once, of all calls; the next one is told to try again."""
RESULT_MAX_CHARS = 4000
PROBLEMS_MAX = 5

Action: TypeAlias = Callable[[LiveCall, Parameters], Awaitable[str]]


class ToolFailed(Exception):
    """The tool could not do it; the text is for the model."""


class Desk:
    """One per process. `actions` by the tools' names."""

    def __init__(self, office: Office, actions: dict[str, Action]) -> None:
        self._office = office
        self._actions = actions
        self._running = 0

    def on_request(self, call: LiveCall, request: ToolRequest) -> None:
        """Start the tool. Synchronous: called from the reader of the workers' messages."""
        if self._running >= AT_ONCE_MAX:
            self._answer(call, request, "too many tools are running; try again", "busy")
            return
        self._running += 1
        self._office.spawn(self._run, call, request)

    async def _run(self, call: LiveCall, request: ToolRequest) -> None:
        began_s = trio.current_time()
        text, outcome = "the gateway failed to run the tool", "error"
        try:
            text, outcome = await self._outcome(call, request)
        finally:
            self._running -= 1
            self._answer(call, request, text, outcome)
            name = request.name if request.name in TOOLS else "other"
            took_s = trio.current_time() - began_s
            self._office.metrics.tool_seconds.labels(name).observe(took_s)

    async def _outcome(self, call: LiveCall, request: ToolRequest) -> tuple[str, str]:
        tool, action = TOOLS.get(request.name), self._actions.get(request.name)
        if tool is None or action is None:
            return f"there is no tool {request.name[:100]}", "unknown"
        if call.closing or call.ended_status:
            return "the call is over", "refused"
        try:
            parameters = tool.parameters.model_validate(request.parameters)
        except ValidationError as error:
            return _what_is_wrong(error), "invalid"
        with trio.move_on_after(tool.deadline_s):
            try:
                return await action(call, parameters), "ok"
            except ToolFailed as failure:
                return str(failure), "refused"
            except (StoreUnavailable, StoreError) as error:
                log.event("tool_failed", level="error", call_id=call.id, error=str(error))
                return "this is not possible at the moment; try again later", "error"
        return "it took too long; nobody knows whether it was done", "timeout"

    def _answer(self, call: LiveCall, request: ToolRequest, text: str, outcome: str) -> None:
        office = self._office
        name = request.name if request.name in TOOLS else "other"
        office.metrics.tool_calls.labels(name, outcome).inc()
        office.note(call, "tool_answered", tool=request.name[:100], outcome=outcome)
        if request.expects_response:
            office.pool.tool_result(
                call.id, request.tool_call_id, text[:RESULT_MAX_CHARS], outcome != "ok"
            )


def _what_is_wrong(error: ValidationError) -> str:
    """Words that let the model do better: each parameter and what is the matter with it."""
    problems = [
        f"{'.'.join(str(part) for part in one['loc']) or 'parameters'}: {one['msg']}"
        for one in error.errors(include_url=False, include_input=False)[:PROBLEMS_MAX]
    ]
    return "wrong parameters: " + "; ".join(problems)
