"""Baseline: trio-websocket, one task for each direction of each call; agent audio forwarded as it comes."""

from __future__ import annotations

import json
import os
import ssl

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket_url,
    serve_websocket,
)

AGENT_URL = os.environ["AGENT_URL"]
TLS = ssl.create_default_context() if AGENT_URL.startswith("wss:") else None


async def uplink(caller: WebSocketConnection, agent: WebSocketConnection, sid: list[str]) -> None:
    while True:
        message = json.loads(await caller.get_message())
        match message["event"]:
            case "media":
                await agent.send_message(
                    json.dumps({"user_audio_chunk": message["media"]["payload"]})
                )
            case "start":
                sid[0] = message["streamSid"]
            case "stop":
                return


async def downlink(caller: WebSocketConnection, agent: WebSocketConnection, sid: list[str]) -> None:
    while True:
        message = json.loads(await agent.get_message())
        match message["type"]:
            case "audio":
                payload = message["audio_event"]["audio_base_64"]
                await caller.send_message(
                    json.dumps(
                        {"event": "media", "streamSid": sid[0], "media": {"payload": payload}}
                    )
                )
            case "interruption":
                await caller.send_message(json.dumps({"event": "clear", "streamSid": sid[0]}))
            case "ping":
                event_id = message["ping_event"]["event_id"]
                await agent.send_message(json.dumps({"type": "pong", "event_id": event_id}))


async def call(request: WebSocketRequest) -> None:
    name = request.path.rpartition("/")[2]
    caller = await request.accept()
    sid = [""]
    try:
        while not sid[0]:  # `connected`, then `start`
            sid[0] = json.loads(await caller.get_message()).get("streamSid", "")
        async with open_websocket_url(f"{AGENT_URL}/{name}", ssl_context=TLS) as agent:
            await agent.send_message(json.dumps({"type": "conversation_initiation_client_data"}))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(downlink, caller, agent, sid)
                await uplink(caller, agent, sid)
                nursery.cancel_scope.cancel()
    except* ConnectionClosed:
        pass
    await caller.aclose()


if __name__ == "__main__":
    trio.run(serve_websocket, call, "127.0.0.1", int(os.environ["LISTEN_PORT"]), None)
