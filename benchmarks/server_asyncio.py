"""The benchmark server where nginx is absent: asyncio protocols, nothing else.

Started by `server.BenchServer` with its settings as JSON in the first argument.
"""

import asyncio
import gc
import json
import ssl
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import replies

COUNTS = {"accepted": 0, "open": 0, "requests": 0}


class Answerer(asyncio.Protocol):
    """One connection: splits requests, answers each with `answer`."""

    def __init__(self, answer: Callable[[str, str, bytes], bytes]) -> None:
        self._answer = answer
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        COUNTS["accepted"] += 1
        COUNTS["open"] += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Count it no more."""
        COUNTS["open"] -= 1

    def data_received(self, data: bytes) -> None:
        """Answer each whole request head; the requests of this task have no body."""
        self._pending += data
        while b"\r\n\r\n" in self._pending:
            head, _, self._pending = self._pending.partition(b"\r\n\r\n")
            method, path, _ = head.split(b" ", 2)
            COUNTS["requests"] += 1
            self._transport.write(self._answer(method.decode(), path.decode(), head))


def http(status: int, body: bytes, extra: str = "") -> bytes:
    """Return one reply as bytes."""
    head = (
        f"HTTP/1.1 {status} Bench\r\nContent-Type: application/xml; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: private\r\n{extra}\r\n"
    )
    return head.encode() + body


class Manager:
    """What an Enterprise Manager says; `changing` replies differ each time."""

    def __init__(self, body: bytes, *, changing: bool) -> None:
        self._body = body
        self._changing = changing

    def answer(self, method: str, path: str, head: bytes) -> bytes:
        """Return the reply to one request."""
        if path.startswith("/api/sessionMngr/"):
            token = f"X-RestSvcSessionId: {replies.TOKEN}\r\n"
            return http(201, replies.LOGON.encode(), token)
        if method == "DELETE":
            return b"HTTP/1.1 204 Bench\r\n\r\n"
        if replies.TOKEN.encode() not in head:
            return http(401, (replies.ERROR % (401, "No token", "")).encode())
        mark = uuid.uuid4().hex if self._changing else ""
        if path == "/api/tasks":
            operation = f"QuickBackup{mark}".encode()
            body = self._body
            if self._changing:
                body = body.replace(replies.CHANGING.encode(), operation)
            return http(200, body)
        task_id = path.removeprefix("/api/tasks/")
        return http(200, replies.one_task(task_id, f"StartJob{mark}").encode())


def count(_method: str, _path: str, _head: bytes) -> bytes:
    """Return the counts in the form of nginx's stub_status page."""
    accepted, opened, requests = (
        COUNTS[name] for name in ("accepted", "open", "requests")
    )
    return http(
        200,
        f"Active connections: {opened}\nserver accepts handled requests\n"
        f" {accepted} {accepted} {requests}\n".encode(),
    )


async def serve(settings: dict[str, object]) -> None:
    """Serve until the process is ended."""
    folder = Path(str(settings["folder"]))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_cert_chain(folder / "server.pem")
    body = (folder / "tasks.xml").read_bytes()
    loop = asyncio.get_running_loop()
    for port, answer, context in (
        (settings["still"], Manager(body, changing=False).answer, tls),
        (settings["changing"], Manager(body, changing=True).answer, tls),
        (settings["count"], count, None),
    ):
        await loop.create_server(
            lambda answer=answer: Answerer(answer), "127.0.0.1", port, ssl=context
        )
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
