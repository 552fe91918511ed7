"""`[media]` of the configuration: every bound and deadline of the audio path, with its unit.

Pure. Built by control from `config.toml`, sent to each worker over the link.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """Settings of the media plane. All fields are also keys of `[media]`."""

    workers: int = 0
    """Worker processes; 0 = one per core less one, at least one."""
    pin_workers: bool = False
    """Each worker on a core of its own, as far as there are as many as workers."""
    realtime: bool = False
    """Workers under SCHED_RR (`gateway.realtime`)."""
    max_calls_per_worker: int = 1000
    admit_lateness_ms: float = 20.0
    """New calls are not placed on a worker of which one tick in twenty comes later; 0: that is not looked at. After
    20 ms the next tick of the same call is due, and the lead of 100 ms still hides it from those who talk."""
    admit_load_percent: float = 90.0
    """Nor on one whose loop works for more of its time; 0: not looked at. What is left is for calls in progress."""

    # Playout: agent audio towards the caller.
    frame_ms: int = 20
    """Audio in one message to Twilio; a multiple of 20."""
    lead_ms: int = 100
    """Audio that Twilio should hold ahead of the caller's ear: one stall of this length is inaudible."""
    lead_max_ms: int = 400
    """How far the lead may adapt to a bursty agent leg. What is ahead is lost at a barge-in."""
    prebuffer_max_ms: int = 200
    """How long the first words of a turn may be held back when the agent leg was seen to stall."""
    playout_max_ms: int = 120_000
    """Agent audio waiting to be played; beyond it the newest audio is dropped and counted."""
    mark_interval_ms: int = 200
    interruption_drops_equal: bool = True
    """Audio whose event id equals the interruption's is stale (the Python and Node SDKs' reading)."""

    # Jitter: caller audio towards the agent.
    caller_audio_max_ms: int = 1000
    """Caller audio kept while the agent leg comes up, and the oldest audio replayed after a stall."""
    gap_fill_min_ms: int = 100
    gap_fill_max_ms: int = 10_000

    # Sockets.
    caller_message_max_bytes: int = 64 * 1024
    agent_message_max_bytes: int = 16 * 1024 * 1024
    leg_write_max_bytes: int = 256 * 1024
    """Bytes that wait for a socket that takes none; beyond it the leg has failed."""

    # Deadlines.
    agent_connect_timeout_s: float = 5.0
    agent_handshake_timeout_s: float = 5.0
    agent_first_message_timeout_s: float = 10.0
    agent_idle_timeout_s: float = 45.0
    agent_redials: int = 2
    """How often a lost agent leg is dialled anew in the same stream; 0: the stream is closed at once."""
    agent_redial_s: float = 3.0
    """From the loss until another agent leg is ready; then the stream is closed."""
    stream_start_timeout_s: float = 5.0
    """From the upgrade to Twilio's `start`."""
    inbound_attach_timeout_s: float = 20.0
    """How long a warm agent leg waits for the stream of an inbound call."""
    outbound_attach_timeout_s: float = 90.0
    drain_margin_s: float = 2.0
    """Added to the audio still to be played when the last mark is awaited."""
    close_timeout_s: float = 2.0
    max_call_s: float = 4 * 3600.0
    drain_timeout_s: float = 30.0
    """After SIGTERM: how long calls in progress may go on."""

    warm_outbound: str = "ringing"
    """When the agent leg of an outbound call is opened: `ringing` or `answer`."""
    recording_dir: str = "recordings"

    runtime_dir: str = ""
    """Where workers can be found by a control process that was started anew; empty in a worker: nowhere."""
    control_return_timeout_s: float = 20.0
    """How long calls go on without a control process."""
