"""Baseline: picows (Cython) on uvloop (C), JSON by orjson (Rust); agent audio forwarded as it comes."""

from __future__ import annotations

import asyncio
import os
import ssl

import orjson
import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_connect,
    ws_create_server,
)

AGENT_URL = os.environ["AGENT_URL"]
TLS = ssl.create_default_context() if AGENT_URL.startswith("wss:") else None


def send(transport: WSTransport | None, message: object) -> None:
    if transport is not None:
        transport.send(WSMsgType.TEXT, orjson.dumps(message))


class AgentLeg(WSListener):
    def __init__(self, caller: CallerLeg) -> None:
        self.caller = caller

    def on_ws_connected(self, transport: WSTransport) -> None:
        caller = self.caller
        caller.agent = transport
        send(transport, {"type": "conversation_initiation_client_data"})
        for message in caller.early:
            send(transport, message)
        caller.early.clear()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = orjson.loads(frame.get_payload_as_bytes())
        caller = self.caller
        match message["type"]:
            case "audio":
                payload = message["audio_event"]["audio_base_64"]
                send(
                    caller.transport,
                    {"event": "media", "streamSid": caller.sid, "media": {"payload": payload}},
                )
            case "interruption":
                send(caller.transport, {"event": "clear", "streamSid": caller.sid})
            case "ping":
                send(transport, {"type": "pong", "event_id": message["ping_event"]["event_id"]})


class CallerLeg(WSListener):
    def __init__(self, path: str) -> None:
        self.name = path.rpartition("/")[2]
        self.transport: WSTransport | None = None
        self.agent: WSTransport | None = None
        self.sid = ""
        self.early: list[object] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = orjson.loads(frame.get_payload_as_bytes())
        match message["event"]:
            case "media":
                audio = {"user_audio_chunk": message["media"]["payload"]}
                if self.agent is None:
                    self.early.append(audio)
                else:
                    send(self.agent, audio)
            case "start":
                self.sid = message["streamSid"]
                self.dialling = asyncio.create_task(self.dial())

    async def dial(self) -> None:
        await ws_connect(lambda: AgentLeg(self), f"{AGENT_URL}/{self.name}", ssl_context=TLS)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.transport = None
        if self.agent is not None:
            self.agent.send_close()
            self.agent.disconnect()


def accept(request: WSUpgradeRequest) -> WSListener:
    return CallerLeg(request.path.decode())


async def main() -> None:
    server = await ws_create_server(accept, "127.0.0.1", int(os.environ["LISTEN_PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
