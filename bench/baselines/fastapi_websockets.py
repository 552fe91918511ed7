"""Baseline: FastAPI under uvicorn, `websockets` towards the agent, as the usual samples do it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os

import uvicorn
import websockets
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

AGENT_URL = os.environ["AGENT_URL"]
app = FastAPI()


@app.websocket("/media/{name}")
async def media(caller: WebSocket, name: str) -> None:
    await caller.accept()
    sid = ""
    async with websockets.connect(f"{AGENT_URL}/{name}") as agent:
        await agent.send(json.dumps({"type": "conversation_initiation_client_data"}))

        async def uplink() -> None:
            nonlocal sid
            async for text in caller.iter_text():
                message = json.loads(text)
                if message["event"] == "media":
                    await agent.send(json.dumps({"user_audio_chunk": message["media"]["payload"]}))
                elif message["event"] == "start":
                    sid = message["start"]["streamSid"]
                elif message["event"] == "stop":
                    await agent.close()
                    return

        async def downlink() -> None:
            async for text in agent:
                message = json.loads(text)
                if message["type"] == "audio":
                    payload = message["audio_event"]["audio_base_64"]
                    await caller.send_json(
                        {"event": "media", "streamSid": sid, "media": {"payload": payload}}
                    )
                elif message["type"] == "interruption":
                    await caller.send_json({"event": "clear", "streamSid": sid})
                elif message["type"] == "ping":
                    event_id = message["ping_event"]["event_id"]
                    await agent.send(json.dumps({"type": "pong", "event_id": event_id}))

        with contextlib.suppress(WebSocketDisconnect, websockets.ConnectionClosed):
            await asyncio.gather(uplink(), downlink())


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["LISTEN_PORT"]), log_level="error", ws="auto"
    )
