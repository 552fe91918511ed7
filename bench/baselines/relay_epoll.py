"""Baseline: bytes relayed unread by a raw epoll loop. The floor of what Python and the kernel cost.

A client's masked frames are a client's masked frames on the other side, too; nothing is parsed but the two
handshakes. Nobody could talk through it: each side receives the other provider's messages.
"""

from __future__ import annotations

import base64
import hashlib
import os
import select
import socket
from urllib.parse import urlsplit

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
RECV_BYTES = 65536


def main() -> None:
    agent = urlsplit(os.environ["AGENT_URL"])
    listener = socket.create_server(("127.0.0.1", int(os.environ["LISTEN_PORT"])), backlog=1024)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    socks: dict[int, socket.socket] = {}
    other: dict[int, socket.socket] = {}
    unsent: dict[int, bytes] = {}

    def join(caller: socket.socket) -> None:
        """Both handshakes, blocking: they are not what is measured."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = caller.recv(4096)
            if not data:
                caller.close()
                return
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        path = lines[0].split(" ")[1]
        headers = {
            k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:])
        }
        key = headers["sec-websocket-key"].encode()
        upstream = socket.create_connection((agent.hostname, agent.port))
        upstream.sendall(
            f"GET /{path.rpartition('/')[2]} HTTP/1.1\r\nHost: {agent.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += upstream.recv(4096)
        caller.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: "
            + base64.b64encode(hashlib.sha1(key + GUID).digest())
            + b"\r\n\r\n"
            + answer.partition(b"\r\n\r\n")[2]
        )
        upstream.sendall(rest)
        for one, two in ((caller, upstream), (upstream, caller)):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socks[one.fileno()] = one
            other[one.fileno()] = two
            poller.register(one, select.EPOLLIN)

    def close(fd: int) -> None:
        peer = other[fd].fileno()
        for end in (fd, peer):
            poller.unregister(end)
            unsent.pop(end, None)
            del other[end]
            socks.pop(end).close()

    def relay(fd: int) -> None:
        try:
            data = socks[fd].recv(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            close(fd)
            return
        peer = other[fd]
        if waiting := unsent.get(peer.fileno()):
            unsent[peer.fileno()] = waiting + data
            return
        try:
            sent = peer.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            close(fd)
            return
        if sent < len(data):
            unsent[peer.fileno()] = data[sent:]
            poller.modify(peer, select.EPOLLIN | select.EPOLLOUT)

    def flush(fd: int) -> None:
        data = unsent.pop(fd, b"")
        sent = socks[fd].send(data) if data else 0
        if sent < len(data):
            unsent[fd] = data[sent:]
        else:
            poller.modify(fd, select.EPOLLIN)

    while True:
        for fd, mask in poller.poll():
            if fd == listener.fileno():
                join(listener.accept()[0])
            elif fd in socks:
                if mask & select.EPOLLOUT:
                    flush(fd)
                if mask & ~select.EPOLLOUT and fd in socks:
                    relay(fd)


if __name__ == "__main__":
    main()
