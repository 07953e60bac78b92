"""The simulated Enterprise Manager, in the caller's own event loop."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypedDict

from veeam_tasks.simulator._accounts import Account
from veeam_tasks.simulator._action_runner import JobLinks, RunningJob
from veeam_tasks.simulator._base_server import BaseServer
from veeam_tasks.simulator._version import VersionName


class SimulatedServer(BaseServer):
    """A simulated Enterprise Manager on a real socket, in the loop that starts it.

    Use it by ``async with``, or by ``await start()`` and ``await aclose()``. States and
    expiry follow the loop's clock, so virtual time works; nothing ticks meanwhile.
    """

    async def start(self) -> Self:
        """Listen; return the server itself.

        Raises:
            RuntimeError: It is running.
            OSError: The port is taken.
        """
        if self._listener.is_running:
            problem = f"{self!r} is running"
            raise RuntimeError(problem)
        self._clock.bind(asyncio.get_running_loop())
        tls = None if self._certificates is None else self._certificates.context
        await self._listener.start(tls)
        return self

    async def aclose(self) -> None:
        """Stop listening and end every connection; may be called twice."""
        await self._listener.stop()

    async def pause(self) -> None:
        """Refuse connections and cut the open ones, as a service that is down."""
        await self._listener.pause()

    async def resume(self) -> None:
        """Listen again, on the same port."""
        await self._listener.resume()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


_PATIENCE: Final = 10.0


class ThreadedServer(BaseServer):
    """A simulated Enterprise Manager in a thread of its own, with its own loop.

    Use it by ``with``, or by ``start()`` and ``close()``, from synchronous code or
    beside any event loop. Its clock is the real one. All of its methods may be called
    from the thread that made it while it serves.
    """

    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> Self:
        """Listen; return the server itself.

        Raises:
            RuntimeError: It is running.
            OSError: The port is taken.
        """
        if self._listener.is_running:
            problem = f"{self!r} is running"
            raise RuntimeError(problem)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="veeam-tasks-simulator", daemon=True
        )
        self._thread.start()
        self._clock.bind(self._loop)
        tls = None if self._certificates is None else self._certificates.context
        try:
            self._run(self._listener.start(tls))
        except BaseException:
            self._end_thread()
            raise
        return self

    def close(self) -> None:
        """Stop listening, end every connection and the thread; may be called twice."""
        if self._loop is None:
            return
        try:
            self._run(self._listener.stop())
        finally:
            self._end_thread()

    def pause(self) -> None:
        """Refuse connections and cut the open ones, as a service that is down."""
        self._run(self._listener.pause())

    def resume(self) -> None:
        """Listen again, on the same port."""
        self._run(self._listener.resume())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            problem = f"{self!r} is not running"
            raise RuntimeError(problem)
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    def _end_thread(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE)
        loop.close()


class ServerOptions(TypedDict, total=False):
    """The options of the marker ``veeam_server``, as a type.

    Those of `SimulatedServer`, which explains them, and ``tasks``: how many tasks there
    are, one script, or several. A marker takes any keyword, so that no type checker can
    look at it. Who writes the options into a variable of this type has them checked:

        OPTIONS: ServerOptions = {"tasks": 5, "version": "13", "job_links": "late"}

        @pytest.mark.veeam_server(**OPTIONS)
    """

    tasks: int | str | Sequence[str]
    host: str
    port: int
    tls: bool
    cert_file: str | None
    version: VersionName
    username: str
    password: str
    accounts: Mapping[str, str | Account] | None
    idle_expiry: float
    session_scoped: bool
    per_session_counter: bool
    speed: float
    seed: int | None
    related_delay: float
    job_links: JobLinks
    link_delay: float
    running_job: RunningJob
    session_delay: float
    collect_interval: float | None
    collect_seconds: float
    clock_skew: float
    date_header: bool
    history: int
    unknown_session: int
    task_location: bool
    failure_messages: bool
    link_base: str | None
    any_id: bool
    keep_requests: int
    access_log: bool
