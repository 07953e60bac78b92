"""The port of `--metrics`, which a Prometheus scrapes while a watch lasts."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._messages import say, visible
from veeam_tasks.cli._onlookers import require

if TYPE_CHECKING:
    from veeam_tasks.metrics import Collector

_LOOPBACK = "127.0.0.1"
_MOST = 65_535


@attrs.define(eq=False)
class MetricsPort:
    """Tells a scraper of each manager that is open; from the first logon on.

    Args:
        host: The address to listen on.
        port: 0 for whichever is free, which is told.
    """

    host: str
    port: int
    _collector: "Collector | None" = None
    _stop: Callable[[], None] | None = None

    @classmethod
    def parse(cls, written: str | None) -> "MetricsPort | None":
        """Return what listens, if an address is given.

        Raises:
            click.UsageError: It is none, or prometheus-client is not there.
        """
        if written is None:
            return None
        require("prometheus_client", "--metrics")
        host, _, port = written.rpartition(":")
        if not port.isascii() or not port.isdigit() or int(port) > _MOST:
            shown = visible(written)
            text = f"--metrics: {shown!r} is no address like :9399 or 127.0.0.1:9399"
            raise click.UsageError(text)
        return cls(host.strip("[]") or _LOOPBACK, int(port))

    def begin(self, manager: "vt.SessionManager", server: str | None = None) -> None:
        """Listen, and tell of this manager from now on.

        Raises:
            click.UsageError: The port cannot be had.
        """
        from veeam_tasks.metrics import Collector, serve  # noqa: PLC0415 - only if asked for

        host = f"[{self.host}]" if ":" in self.host else self.host
        if self._collector is None:
            collector = Collector()
            problem = ""
            try:
                listening, _ = serve(collector, self.host, self.port)
            except OSError as error:
                problem = error.strerror or str(error)
            except UnicodeError:
                problem = "this is no name of a host"
            if problem:
                text = f"--metrics: cannot listen on {host}:{self.port}: {problem}"
                raise click.UsageError(text)

            def stop() -> None:
                listening.shutdown()
                listening.server_close()

            self._collector, self._stop = collector, stop
            if not self.port:
                say(f"metrics: http://{host}:{listening.server_port}/metrics")
        self._collector.add(manager, name=server)

    def expect(self, task_ids: "Sequence[str]", server: str | None = None) -> None:
        """Take note of nothing: the manager counts by itself."""

    def notice(self, notice: "vt.Notice", server: str | None = None) -> None:
        """Take note of nothing: the manager counts by itself."""

    def event(self, event: "vt.TaskEvent", server: str | None = None) -> None:
        """Take note of nothing: the manager counts by itself."""

    async def finish(self, why: str | None = None) -> None:  # noqa: ARG002 - the protocol has it
        """Stop listening."""
        if self._stop is not None:
            self._stop()
            self._stop = None
