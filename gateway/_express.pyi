"""Types of the compiled lanes; `gateway.flow`, `outlet`, `playout` and `intake` say what they mean."""

import select
from collections.abc import Callable

from gateway.flow import PlainCallerFlow
from gateway.intake import Due, Ready, Socket
from gateway.outlet import PlainOutlet
from gateway.playout import PlainPace, PlainPlayout

class CallerFlow(PlainCallerFlow): ...
class Pace(PlainPace): ...
class Playout(PlainPlayout): ...
class Outlet(PlainOutlet): ...

class Fir:
    received: int
    def __init__(self, up: int, down: int, taps: bytes, length: int) -> None: ...
    def push(self, pcm16: bytes) -> bytes: ...
    def reset(self) -> None: ...

class Intake:
    samples: list[tuple[object, float]]
    relayed_frames: int
    busy_s: float
    def __init__(
        self,
        epoll: select.epoll,
        clock: Callable[[], float],
        linear_of_ulaw: bytes,
        sample_every: int,
    ) -> None: ...
    def watch(self, sock: Socket, /) -> None: ...
    def forget(self, fd: int, /) -> None: ...
    def join(
        self,
        caller_fd: int,
        agent_fd: int,
        write: Callable[[bytes], int] | None,
        flow: PlainCallerFlow,
        stream_sid: bytes,
        fir: object | None,
        is_pcm: bool,
        owner: object,
        /,
    ) -> None: ...
    def part(self, caller_fd: int, /) -> None: ...
    def poll(self, wait_s: float, pause_s: float, batch: int, /) -> list[Ready]: ...
    def tick(self, outlets: list[PlainOutlet], now_s: float, /) -> list[Due]: ...
