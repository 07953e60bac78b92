"""Debian's Chromium without a window, spoken to in its own protocol."""

import asyncio
import base64
import itertools
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 240
"""Seconds; on a busy machine a picture of thousands of tasks takes more than one."""
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
)


@attrs.define
class Page:
    """One page.

    Attributes:
        complaints: What its console said, and each request that left the machine.
    """

    _socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = attrs.field(factory=list)
    _is_loaded: bool = False
    _numbers: Any = attrs.field(factory=lambda: itertools.count(1))

    async def call(self, method: str, **params: object) -> Any:
        """Call a method of the protocol; return its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=PATIENCE)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        method, params = message.get("method", ""), message.get("params", {})
        if method == "Page.loadEventFired":
            self._is_loaded = True
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(params["args"]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(str(params["entry"]))
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:")):
                self.complaints.append(f"asked for {url}")

    async def open(
        self, path: Path, *, width: int, is_dark: bool = False, height: int = 900
    ) -> None:
        """Show a file."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = "dark" if is_dark else "light"
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])
        self._is_loaded = False
        await self.call("Page.navigate", url=path.as_uri())
        while not self._is_loaded:
            self._hear(await self._socket.receive_json(timeout=PATIENCE))

    async def evaluate(self, script: str) -> Any:
        """Return what a line of script gives."""
        result = await self.call(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def printed(self) -> bytes:
        """Return the page as it is printed, a PDF."""
        printed = await self.call("Page.printToPDF")
        return base64.b64decode(printed["data"])

    async def screenshot(self, *, most: int = 8000) -> bytes:
        """Return a picture of the page, a PNG of at most `most` pixels in height."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": min(most, size["height"]),
            "scale": 1,
        }
        picture = await self.call(
            "Page.captureScreenshot", captureBeyondViewport=True, clip=clip
        )
        return base64.b64decode(picture["data"])


@asynccontextmanager
async def _first_page(address: str) -> AsyncIterator[Page]:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://{address}/json/list") as reply:
            pages = await reply.json(content_type=None)
        url = next(one for one in pages if one["type"] == "page")
        async with http.ws_connect(url["webSocketDebuggerUrl"], max_msg_size=0) as ws:
            page = Page(ws)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.call(f"{domain}.enable")
            yield page


@asynccontextmanager
async def chromium() -> AsyncIterator[Page]:
    """Start it, and give its first page."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *_OPTIONS,
            f"--user-data-dir={folder}",
            "about:blank",
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            found = None
            while found is None:
                async with asyncio.timeout(PATIENCE):
                    line = (await process.stderr.readline()).decode()
                assert line, "chromium ended"
                found = re.search(r"DevTools listening on ws://([^/]+)/", line)
            async with _first_page(found[1]) as page:
                yield page
        finally:
            process.terminate()
            await process.wait()
