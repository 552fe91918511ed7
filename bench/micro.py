"""What each stage of the audio path costs for one frame of 20 ms: medians in microseconds.

    python -m bench.micro [--seconds S] [--json FILE]

Each stage is run in short rounds until its time is up; the median round counts, so that a round in which the
machine did something else does not. With `bench.quality` this is the only bench that imports the gateway: it
measures functions, not the daemon.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.load import wire
from gateway import convai, twilio_media
from gateway.audio import ULAW_8000, parse_format
from gateway.bridge import Bridge
from gateway.link import CallPlan
from gateway.playout import Playout
from gateway.settings import MediaSettings
from gateway.transcode import Transcoder
from gateway.websocket import WebSocket

ROUND_S = 0.004
SID = "MZ" + "0123456789abcdef" * 2
FRAME_S = 0.02

Stage = Callable[[], object]


def stages(here: socket.socket, there: socket.socket) -> dict[str, Stage]:
    """Name → one frame's work. The sockets are the two ends of a connection."""
    ulaw = wire.payload(0)
    text = base64.b64encode(ulaw)
    heads = wire.Heads()
    heads.grow(200)
    head, phase = heads.made[150]
    caller_frame = head + wire.tails(SID)[phase]
    server = WebSocket(client=False, max_message_bytes=65536)
    client = WebSocket(client=True, max_message_bytes=65536)
    ((_, media),) = server.receive(caller_frame)
    to_agent = convai.encode_audio(text)
    to_caller = twilio_media.encode_media(SID.encode(), text)
    pcm = parse_format("pcm_16000")
    up, down = Transcoder(ULAW_8000, pcm), Transcoder(pcm, ULAW_8000)
    samples = bytes(640)
    wire_frame = client.encode_text(to_agent)

    def send_and_receive() -> None:
        here.send(wire_frame)
        there.recv(65536)

    return {
        "framing, unmask: receive one frame": lambda: server.receive(caller_frame),
        "parse: split a media message": lambda: twilio_media.split_media(media),
        "splice: envelope for the agent": lambda: convai.encode_audio(text),
        "splice: envelope for the caller": lambda: twilio_media.encode_media(SID.encode(), text),
        "encode: masked frame to the agent": lambda: client.encode_text(to_agent),
        "encode: frame to the caller": lambda: server.encode_text(to_caller),
        "parse: agent's 250 ms of audio (12.5 frames)": _agent_chunk(),
        "transcode: µ-law to PCM 16 kHz": lambda: up.push(ulaw),
        "transcode: PCM 16 kHz to µ-law": lambda: down.push(samples),
        "playout: push and take": _playout(ulaw),
        "send and receive: loopback TCP": send_and_receive,
        "bridge, uplink: bytes in to bytes out": _uplink("ulaw_8000", heads),
        "bridge, uplink, PCM 16 kHz": _uplink("pcm_16000", heads),
        "bridge, downlink: tick to bytes out": _downlink(),
    }


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    with here, there:
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield here, there


def _agent_chunk() -> Stage:
    frame = wire.AgentVoice("ulaw_8000", 250, 8, alignment=False).chunk(1)
    reader = WebSocket(client=True, max_message_bytes=1 << 20)

    def work() -> None:
        for _, message in reader.receive(frame):
            convai.decode(message)

    return work


def _playout(ulaw: bytes) -> Stage:
    playout = Playout(MediaSettings())
    clock = [0.0]

    def work() -> None:
        clock[0] += FRAME_S
        playout.push(ulaw, clock[0])
        playout.take(clock[0])

    return work


def _bridge(audio_format: str) -> Bridge:
    """A call in full swing."""
    plan = CallPlan("call_1", "inbound", "http://127.0.0.1", "key", "agent")
    bridge = Bridge(plan, MediaSettings(playout_max_ms=100_000_000))
    bridge.agent_opened(0.0)
    bridge.caller_opened(0.0)
    bridge.agent_bytes(wire.metadata("conv_1", audio_format, audio_format), 0.0)
    bridge.caller_bytes(wire.CONNECTED + wire.start(SID, "CA1", "AC1", {}), 0.0)
    bridge.take_agent()
    bridge.take_caller()
    bridge.events.clear()
    return bridge


def _uplink(audio_format: str, heads: wire.Heads) -> Stage:
    bridge = _bridge(audio_format)
    ping = wire.ping(1)
    tails = wire.tails(SID)
    position = [0]

    def work() -> None:
        k = position[0]
        position[0] = k + 1
        if k >= len(heads.made):
            heads.grow(k + 1000)
        head, phase = heads.made[k]
        bridge.caller_bytes(head + tails[phase], k * FRAME_S)
        if not k % 50:
            bridge.agent_bytes(ping, k * FRAME_S)  # or the agent would be taken for gone
        bridge.take_agent()

    return work


def _downlink() -> Stage:
    """Agent audio in long chunks, so that nearly all of the work is playout."""
    bridge = _bridge("ulaw_8000")
    voice = wire.AgentVoice("ulaw_8000", 2000, 1, alignment=False)
    clock = [0.0]
    said = [0]

    def work() -> None:
        clock[0] += FRAME_S
        if bridge.downlink.playout.queued_bytes < 8000:
            said[0] += 1
            bridge.agent_bytes(voice.chunk(1 + said[0]), clock[0])
            bridge.caller_bytes(b"", clock[0])  # or the caller would be taken for gone
        bridge.tick(clock[0])
        bridge.take_caller()
        bridge.events.clear()

    return work


def measure(work: Stage, seconds: float) -> float:
    """Median microseconds of one call."""
    work()
    count = 1
    while (spent_s := _time(work, count)) < ROUND_S / 4:
        count *= 4
    count = max(1, round(count * ROUND_S / spent_s))
    rounds = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or len(rounds) < 5:
        rounds.append(_time(work, count) / count)
    return median(rounds) * 1e6


def _time(work: Stage, count: int) -> float:
    begin_s = time.perf_counter()
    for _ in range(count):
        work()
    return time.perf_counter() - begin_s


def main() -> int:
    """Print the table; write it as JSON where asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each stage")
    parser.add_argument("--json")
    options = parser.parse_args()
    gc.collect()
    gc.disable()
    nothing = measure(lambda: None, options.seconds)
    found = {}
    with connection() as (here, there):
        for name, work in stages(here, there).items():
            found[name] = round(max(0.0, measure(work, options.seconds) - nothing), 3)
            print(f"{found[name]:9.2f} µs  {name}")
    if options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
