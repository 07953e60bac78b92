"""Which server, as whom, and whom to trust; and the logon to it."""

import asyncio
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._explain import outage, wrong_argument
from veeam_tasks.cli._messages import say, span, warn
from veeam_tasks.cli._onlookers import Onlooker, told_of
from veeam_tasks.cli._password import Hidden, PasswordSource, has_terminal

_SILENCE_SECONDS = 1.0
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 1.0, 1.5, 30.0
_HOPELESS: Final = frozenset({"no_tls", "tls", "password"})
_SERVER_ERROR: Final = 500


@contextmanager
def checking(server: "Server | None" = None) -> Iterator[None]:
    """Turn what the package says of wrong arguments into a usage error."""
    problem = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except vt.ArgumentError as error:
            problem = wrong_argument(error, server)
    if problem:
        raise click.UsageError(problem)
    if any(issubclass(one.category, UserWarning) for one in caught):
        warn(
            "--insecure: no certificate is verified, so anyone on the way can read the"
            " password"
        )


@attrs.frozen(kw_only=True)
class Server:
    """Where to log on, as whom, and whom to trust.

    Attributes:
        url: Of the server; None if nobody named one.
        username: As whom; None if it is to be asked for.
        password: Where the password comes from.
        token: Of a logon session that was opened before.
        session_id: Of the same.
        options: What goes to the package as it is.
        sources: How the user named each setting.
        quiet: Whether only what goes wrong is told.
        name: What the configuration file calls it, if it is one of that.
    """

    url: str | None
    username: str | None
    password: PasswordSource
    token: str | None = attrs.field(repr=False)
    session_id: str | None = attrs.field(repr=False)
    options: Mapping[str, Any] = attrs.field(repr=False)
    sources: Mapping[str, str]
    quiet: bool = False
    name: str | None = None

    @property
    def is_adopted(self) -> bool:
        """Whether a logon session of someone else is used."""
        return self.token is not None

    @property
    def settings(self) -> Mapping[str, object]:
        """What was set, by the names of the package's arguments."""
        return {**self.options, "url": self.url, "username": self.username}

    @property
    def password_problem(self) -> str:
        """Why the password could not be had again, or nothing."""
        return self.password.problem

    def named(self, parameter: str) -> str | None:
        """Return the option, variable or entry that set a parameter, if any did."""
        return self.sources.get(parameter)

    def required_url(self) -> str:
        """Return the URL.

        Raises:
            click.UsageError: There is none.
        """
        if self.url is None and self.name:
            text = f"the server {self.name!r} of the configuration file has no url"
            raise click.UsageError(text)
        if self.url is None:
            text = (
                "no server: pass --url, or set VEEAM_EM_URL, as https://em.example:9398,"
                " or name one of the configuration file by --server"
            )
            raise click.UsageError(text)
        return self.url

    def logon(
        self,
        *,
        patience: float | None = None,
        timeout: float | None = None,
        onlookers: Sequence[Onlooker] = (),
        name: str | None = None,
        **more: Any,
    ) -> "Logon":
        """Return what logs on when it is entered, or adopts the logon session.

        Args:
            patience: How long the server may be away before the first logon; None for
                not at all.
            timeout: How long the command may take: nor is the server waited for longer.
            onlookers: Are told of the manager once it is open, and of each notice.
            name: What onlookers call this server, where there are several.
            **more: Arguments of `connect`.

        Raises:
            click.UsageError: Something is missing or wrong; nothing was sent.
        """
        # The proxy's URL may hold a password.
        url, options = self.required_url(), Hidden({**self.options, **more})
        if patience is not None:
            options.reveal()["patience"] = patience
        if onlookers:
            told = told_of(onlookers, more.get("on_notice"), name)
            options.reveal()["on_notice"] = told
        began = [partial(one.begin, server=name) for one in onlookers]
        if self.token is not None:
            with checking(self):
                adopted = vt.adopt(
                    url, self.token, session_id=self.session_id, **options.reveal()
                )
            return Logon(
                adopted,
                server=self,
                shown=url,
                patience=patience,
                timeout=timeout,
                began=began,
            )
        username = self.username
        if username is None and has_terminal():
            username = click.prompt("User name", err=True)
        if username is None:
            text = "no user name: pass --username, or set VEEAM_EM_USERNAME"
            if self.name:
                text = (
                    f"the server {self.name!r} of the configuration file has no"
                    " username; write one there, or pass --username"
                )
            raise click.UsageError(text)
        with checking(self):
            # It checks all that was said, and sends nothing yet: nobody is asked for a
            # password that a wrong URL makes useless.
            manager = vt.SessionManager(
                url, username=username, password=self.password, **options.reveal()
            )
        root = manager.url.removesuffix("/").removesuffix("/api")
        self.password.prepare(url=root, username=username)
        return Logon(
            manager,
            server=self,
            shown=root,
            patience=patience,
            timeout=timeout,
            began=began,
        )


class Logon:
    """Logs on when it is entered and out when it is left; tells what takes long.

    Args:
        opening: What logs on: a manager, or what `adopt` returned.
        server: Which server that is.
        shown: Its URL, for people.
        patience: How long the server may be away before the first logon.
        timeout: How long the command may take.
        began: Are told of the manager once it is open.
    """

    def __init__(
        self,
        opening: Any,
        *,
        server: Server,
        shown: str,
        patience: float | None,
        timeout: float | None,
        began: "Sequence[Callable[[vt.SessionManager], object]]" = (),
    ) -> None:
        self._opening = opening
        self._server = server
        self._shown = shown
        self._patience = patience
        self._timeout = timeout
        self._began = began

    async def __aenter__(self) -> "vt.SessionManager":
        loop = asyncio.get_running_loop()
        is_silent = self._server.quiet or not sys.stderr.isatty()
        timer = loop.call_later(_SILENCE_SECONDS, self._tell, is_silent)
        try:
            manager: vt.SessionManager = await self._open(loop.time())
        finally:
            timer.cancel()
        try:
            for tell in self._began:
                tell(manager)
        except BaseException:
            # What raises here is not entered, so nobody would leave it.
            await self._opening.__aexit__(*sys.exc_info())
            raise
        return manager

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opening.__aexit__(kind, error, trace)

    def abort(self) -> None:
        """End what may hold up a log-out: a command that is asked for the password."""
        self._server.password.abort()

    def _tell(self, is_silent: bool) -> None:  # noqa: FBT001 - a callback of the loop
        if not is_silent:
            say(f"connecting to {self._shown} ...")

    async def _open(self, began: float) -> Any:
        """Log on; as long as the server is merely away, wait for it."""
        loop = asyncio.get_running_loop()
        pause, is_told = _FIRST_PAUSE, False
        longest = min(
            (one for one in (self._patience, self._timeout) if one is not None),
            default=0,
        )
        while True:
            try:
                return await self._opening.__aenter__()
            except vt.VeeamTasksError as error:
                if self._patience is None or not _passes(error):
                    raise
                waited = loop.time() - began
                if waited >= self._patience:
                    raise
                why = outage(error)
                if self._timeout is not None and waited >= self._timeout:
                    raise vt.WatchTimeoutError(
                        seconds=self._timeout,
                        report=vt.Report(outcomes={}),
                        trouble=why,
                    ) from error
                left = longest - waited
            if not is_told:
                is_told = True
                say(f"waiting for {self._shown}, for {span(longest)} at most: {why}")
            await asyncio.sleep(min(pause, left))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def _passes(error: vt.VeeamTasksError) -> bool:
    """Tell whether a server may be back later; a refusal stays one."""
    if isinstance(error, vt.CertificateError):
        return False
    if isinstance(error, vt.TransportError):
        return error.kind not in _HOPELESS
    if isinstance(error, vt.LogonError):
        return False
    return isinstance(error, vt.StatusError) and error.status >= _SERVER_ERROR
