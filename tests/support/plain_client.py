"""A client made of a socket and bytes, so that nothing of ours reads the replies."""

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from typing import Any, Self
from xml.etree import ElementTree as ET

import attrs

NAMESPACE = "{http://www.veeam.com/ent/v1.0}"
XML = {"Accept": "application/xml"}
JSON = {"Accept": "application/json"}


@attrs.frozen
class Got:
    """One reply, as it stood on the wire."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header whatever its case."""
        wanted = name.lower()
        return next((text for key, text in self.headers if key.lower() == wanted), None)

    @property
    def xml(self) -> ET.Element:
        """The body as XML."""
        return ET.fromstring(self.body)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def names(self) -> list[str]:
        """The local names of the root and its children."""
        root = self.xml
        return [one.tag.removeprefix(NAMESPACE) for one in (root, *root)]

    def text(self, path: str) -> str | None:
        """Return the text at a path of local names below the root."""
        return self.xml.findtext("/".join(NAMESPACE + part for part in path.split("/")))


class Client:
    """One kept connection to a server."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        self.url = url
        self._context = context
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.token: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> None:
        """Send one request; the token goes along, Content-Length with a body."""
        host, _, port = self.url.partition("://")[2].rpartition(":")
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=self._context
            )
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}"]
        if self.token is not None:
            lines.append(f"X-RestSvcSessionId: {self.token}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join(lines) + "\r\n\r\n"
        self._streams[1].write(head.encode("latin-1") + (body or b""))

    async def read(self, count: int = -1) -> bytes:
        """Read what comes, to the end of the connection or `count` bytes."""
        assert self._streams is not None
        return await self._streams[0].read(count)

    async def head(self) -> Got:
        """Read status line and headers."""
        assert self._streams is not None
        raw = await self._streams[0].readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        _, status, reason = first.split(" ", 2)
        pairs = tuple(
            (name, text) for name, _, text in (x.partition(": ") for x in rest)
        )
        return Got(int(status), reason, pairs, b"")

    async def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Got:
        """Send one request and read its reply by Content-Length."""
        await self.send(method, target, headers, body)
        got = await self.head()
        assert self._streams is not None
        length = int(got.header("Content-Length") or 0)
        return attrs.evolve(got, body=await self._streams[0].readexactly(length))

    async def get(self, target: str, headers: Mapping[str, str] | None = None) -> Got:
        """GET."""
        return await self.ask("GET", target, headers)

    async def post(
        self, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Got:
        """POST with a Content-Length."""
        return await self.ask("POST", target, headers, body)

    async def log_on(
        self,
        username: str = "admin",
        password: str = "admin-secret",
        *,
        version: str = "latest",
        headers: Mapping[str, str] | None = None,
    ) -> Got:
        """Log on, and send the token from now on."""
        self.token = None
        got = await self.post(
            f"/api/sessionMngr/?v={version}",
            {"Authorization": basic(username, password), **(headers or {})},
        )
        self.token = got.header("X-RestSvcSessionId")
        return got


def related(got: Got) -> list[dict[str, str]]:
    """Return the attributes of the Related links."""
    every = got.xml.iter(f"{NAMESPACE}Link")
    return [one.attrib for one in every if one.get("Rel") == "Related"]


def member(body: Any, *names: str) -> Any:
    """Return a member whatever its case, as programs must since 13."""
    for name in names:
        body = {key.lower(): value for key, value in body.items()}[name.lower()]
    return body


def basic(username: str, password: str, encoding: str = "utf-8") -> str:
    """Return an Authorization header."""
    raw = f"{username}:{password}".encode(encoding)
    return f"Basic {base64.b64encode(raw).decode()}"
