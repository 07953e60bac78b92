"""`SessionManager`: checks what callers pass in, and asks the `Runtime` for the rest.

Every public call stands here with its documentation; when it is open and when not is
the matter of its `Lifetime`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, Unpack

from veeam_tasks._client.lifetime import Lifetime
from veeam_tasks._client.runtime import Runtime
from veeam_tasks._engine.checkpoint_reader import read_checkpoint
from veeam_tasks._engine.checkpoint_values import Checkpoint
from veeam_tasks._engine.held_time import TimeLimit
from veeam_tasks._engine.watch import TaskLike, Waiter, Watch, followed, task_ids_of
from veeam_tasks._model import JobSession, Link, Run, Task, TaskSession
from veeam_tasks._options.keywords import Options, check_names, hide_secrets
from veeam_tasks._options.settings import (
    make_settings,
    with_options,
)
from veeam_tasks._pace import Pace, check_flag, check_seconds, check_timeout
from veeam_tasks._protocol.actions import Body, action_request
from veeam_tasks._protocol.messages import Request
from veeam_tasks._protocol.session_paths import SessionLike, session_path
from veeam_tasks._protocol.urls import resource_path
from veeam_tasks._redaction import (
    NotCopyable,
    Secret,
    Secrets,
    counted,
    hidden,
    names_nearest,
    of_the_package,
)
from veeam_tasks._session.credentials import Credentials, Password
from veeam_tasks._telemetry.monitor import Measures
from veeam_tasks._telemetry.notices import Statistics

FIND_TIMEOUT = 1200.0
"""Seconds. The Enterprise Manager collects data every 15 minutes unless told otherwise
(``collecting_data_from_backup_servers`` in its user guide)."""


def _search(find_timeout: float, *, follow: bool) -> float | None:
    """Return how long a job session may be searched; None if it is not followed."""
    check_flag("follow", follow)
    check_seconds("find_timeout", find_timeout)
    return find_timeout if follow else None


class SessionManager(NotCopyable):
    """One logon session, shared by every poller.

    Made logged on by `connect` and `adopt`; or directly, and then opened by
    ``async with`` or ``await manager.open()``. It belongs to the event loop that it
    was opened in. Until it is open each call raises `ClosedError`, after a refused
    logon that `LogonError`, and from another loop or thread a RuntimeError.

    `__init__` explains its arguments, which are those of `connect`.
    """

    _what = "a SessionManager holds connections"

    @with_options
    def __init__(
        self,
        url: str,
        *,
        username: str,
        password: Password,
        **options: Unpack[Options],
    ) -> None:
        """Check the arguments; nothing is sent until it is opened."""
        # Or whoever prints the locals of a traceback would show it.
        secret = hidden(password)
        del password
        hide_secrets(options)
        given = {"url": url, "username": username, "password": secret}
        check_names(type(self).__name__, given, options)
        self._prepare(url, Credentials(username=username, password=secret), options)

    def _prepare(
        self,
        url: str,
        account: Credentials | None,
        options: Options,
        adopted: tuple[Secret, Secret | None] | None = None,
    ) -> None:
        settings = make_settings(url, options)
        self._settings = settings
        self._secrets = Secrets()
        if adopted is not None:
            self._secrets.add(*adopted)
        self._lifetime = Lifetime(
            settings=settings,
            secrets=self._secrets,
            credentials=account,
            adopted=adopted,
        )

    @property
    def _runtime(self) -> Runtime | None:
        """What is open now, or was last."""
        return self._lifetime.runtime

    def _running(self) -> Runtime:
        return self._lifetime.running()

    # --- open and close

    async def open(self) -> Self:
        """Log on, unless that is done; after a refusal or a close, log on anew.

        Raises:
            LogonError: The account, or the adopted token, was refused.
            CertificateError: The server is not trusted; nothing was sent to it.
            TransportError, StatusError, MalformedReplyError: No usable reply came.
            ClosedError: It was closed meanwhile.
            RuntimeError: No asyncio loop is running, or it is open in another one.
        """
        await self._lifetime.open()
        return self

    async def aclose(self, *, log_out: bool = True) -> None:
        """Stop the watches, log out, close the connections. May be called twice.

        What is logged out is only what was logged on here. A cancellation in the
        middle is honoured afterwards.

        Args:
            log_out: False leaves the logon session open, for `adopt` elsewhere;
                `token` and `session_id` stay readable.

        Raises:
            RuntimeError: It is open in another event loop.
            TypeError: `log_out` is neither True nor False.
        """
        check_flag("log_out", log_out)
        await self._lifetime.aclose(log_out=log_out)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        lifetime: Lifetime | None = getattr(self, "_lifetime", None)
        if lifetime is not None and lifetime.runtime is not None:
            lifetime.runtime.abandon()

    # --- tasks

    async def fetch(self, task: TaskLike) -> Task:
        """GET one task, once.

        Raises:
            ValueError, TypeError: Not a task, or another server's.
            TaskNotFoundError: The server, or this logon session, does not know it.
            ForbiddenError: This account may not read it.
            TaskLostError: Its Href proves to be another server's.
            StatusError, TransportError, MalformedReplyError: No usable reply came.
        """
        task_id = self._lifetime.origins.id_of(task)
        return await self._running().calls.fetch(task_id)

    async def fetch_all(self) -> list[Task]:
        """GET the tasks of this logon session, every page.

        Raises:
            StatusError, TransportError, MalformedReplyError: No usable reply came.
        """
        return await self._running().calls.fetch_all()

    @names_nearest
    def watch(
        self,
        *tasks: TaskLike | Iterable[TaskLike],
        follow: bool = False,
        find_timeout: float = FIND_TIMEOUT,
        timeout: float | None = None,
        pace: Pace | None = None,
    ) -> Watch:
        """Start watching tasks, at once; not a coroutine.

        A `Task` or an Href of another server is refused: its ID is another task's here.

        Args:
            *tasks: IDs, `Task` values or Hrefs, or one iterable of them.
            follow: Whether a task that finished with success goes on as the job
                session that it started.
            find_timeout: Seconds after the end of a task for which its job session is
                searched; the Enterprise Manager may learn of it late.
            timeout: Seconds after which the watch ends with `WatchTimeoutError`. A
                time for which other code held the loop for a second or more, or the
                process was stopped, does not count, here and in every other call.
            pace: Instead of the manager's.

        Raises:
            ValueError, TypeError: An argument is wrong; nothing is watched.
            ClosedError: The manager is not open.
            LogonError: The logon was refused before.
            RuntimeError: Called outside the event loop that it was opened in.
        """
        task_ids = task_ids_of(tasks, self._lifetime.origins)
        search = _search(find_timeout, follow=follow)
        return self._watch(task_ids, timeout=timeout, pace=pace, find_timeout=search)

    @names_nearest
    def watch_all(
        self,
        timeout: float | None = None,
        pace: Pace | None = None,
        *,
        follow: bool = False,
        find_timeout: float = FIND_TIMEOUT,
    ) -> Watch:
        """Start watching every task of the logon session, those to come included.

        It ends only when it is closed or, quietly, at its timeout.
        What has ended, was delivered and is gone at the server is left out of its
        report after an hour or more, so that it may go on for months. After a renewal
        of the logon session an ID that has ended may be told from sequence 1 again:
        then it is another task.

        Args:
            timeout: Seconds after which it ends.
            pace: Instead of the manager's.
            follow: Whether a task that finished with success goes on as the job
                session that it started.
            find_timeout: Seconds after the end of a task for which its job session is
                searched.

        Raises:
            ValueError, TypeError: An argument is wrong; nothing is watched.
            ClosedError: The manager is not open.
            LogonError: The logon was refused before.
            RuntimeError: Called outside the event loop that it was opened in.
        """
        search = _search(find_timeout, follow=follow)
        return self._watch(
            (), timeout=timeout, pace=pace, find_timeout=search, is_endless=True
        )

    @names_nearest
    def resume(
        self,
        checkpoint: Mapping[str, Any],
        *,
        timeout: float | None = None,
        pace: Pace | None = None,
    ) -> Watch:
        """Go on with a watch of another process, or of an earlier one, at once.

        No event is told again that was taken before the checkpoint, and sequences go
        on. Nothing is submitted again. Under the same logon session (`adopt`) tasks go
        on. Under another one a task that it does not know is LOST, and so is one that
        it has under the same ID and that is not the same; a job whose job
        session was followed is still found.

        Args:
            checkpoint: What `Watch.checkpoint` returned.
            timeout: Seconds after which the watch ends, from now on.
            pace: Instead of the manager's.

        Raises:
            ValueError: It is damaged, of another version, or of another URL.
            TypeError: Another argument is wrong; nothing is watched.
            ClosedError: The manager is not open.
            LogonError: The logon was refused before.
            RuntimeError: Called outside the event loop that it was opened in.
        """
        read = read_checkpoint(checkpoint, self.url, self._secrets.hide_in_path)
        return self._watch(
            (),
            timeout=timeout,
            pace=pace,
            find_timeout=read.find_timeout,
            is_endless=read.all,
            checkpoint=read,
        )

    def _watch(
        self,
        task_ids: Iterable[str],
        *,
        timeout: float | None = None,
        limit: TimeLimit | None = None,
        find_timeout: float | None,
        pace: Pace | None = None,
        is_endless: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> Watch:
        seconds = check_timeout(timeout)
        pause = self._settings.pace_for(pace)
        return Watch(
            self._running().engine,
            task_ids,
            pace=pause,
            timeout=seconds,
            limit=limit,
            manager=self,
            is_endless=is_endless,
            find_timeout=find_timeout,
            checkpoint=checkpoint,
        )

    @names_nearest
    async def wait(
        self,
        task: TaskLike,
        timeout: float | None = None,  # noqa: ASYNC109 - the public surface has it
    ) -> Task:
        """Return the task once it is Finished with success; ride out outages.

        Cancelling it only unsubscribes: the task goes on.

        Args:
            task: An ID, a `Task` or an Href.
            timeout: Seconds to wait; None for ever.

        Raises:
            TaskFailedError: It finished without success.
            TaskLostError: The client can no longer learn of it.
            WatchTimeoutError: `timeout` seconds passed.
            LogonError, TransportError, CertificateError: It cannot go on.
            ClosedError: The manager is not open, or was closed meanwhile.
            ValueError, TypeError: An argument is wrong.
        """
        task_id = self._lifetime.origins.id_of(task)
        seconds = check_timeout(timeout)
        runtime = self._running()
        return await Waiter(runtime.engine, task_id, self._settings.pace).wait(seconds)

    @names_nearest
    async def submit(
        self,
        path: str | Link,
        body: Body | None = None,
        *,
        method: Literal["POST", "PUT", "DELETE"] = "POST",
        follow: bool = False,
    ) -> Task:
        """Send an action that the server answers with a task; carry it out once.

        A 401 means that it was not carried out, so it goes once more under a new
        token. In every other case it is sent once.

        Args:
            path: Below ``/api/``: ``"jobs/b04c217b?action=start"``; also as a URL of
                this server, or as a `Link`, of which only path and query are used.
            body: XML as `str` or `bytes`, or a mapping of its one root element, to
                which the namespace is added; the order is kept.
            method: "POST", "PUT" or "DELETE".
            follow: Whether its job session is to be followed: then it asks first which
                job sessions there are already, as `run` does. A refusal of that
                question is no error.

        Returns:
            The task, which may be Finished already.

        Raises:
            SubmitUncertainError: No reply came; it may have been carried out.
            StatusError: Refused; a 5xx other than 501 may have been carried out.
            MalformedReplyError: A reply without a task; it may have been carried out.
            TransportError, CertificateError: It was not sent.
            ValueError, TypeError: An argument is wrong; nothing was sent.
        """
        check_flag("follow", follow)
        request = self._action(path, body, method)
        return await self._running().calls.submit(request, follow=follow)

    def _action(self, path: str | Link, body: Body | None, method: str) -> Request:
        settings = self._settings
        return action_request(
            path,
            body,
            method,
            base=settings.base,
            media_type=settings.media_type,
            secrets=self._secrets,
        )

    async def delete(self, task: TaskLike) -> None:
        """DELETE the task: the server forgets it, and may or may not stop its work.

        The vendor's pages say both (``delete_task_id``), so this is best effort.

        After a 401 it goes once more only under the same logon session, since in
        another one the ID may be another task's.

        Raises:
            TaskLostError: Its logon session ended, or it is another server's; not sent.
            TaskNotFoundError: The server, or this logon session, does not know it.
            SubmitUncertainError: No reply came; it may be deleted.
            StatusError: It was refused; but for 501, from 500 on it may be deleted.
            MalformedReplyError: Someone else answered; it may be deleted.
            TransportError, CertificateError: It was not sent.
            ValueError, TypeError: Not a task, or another server's.
        """
        task_id = self._lifetime.origins.id_of(task)
        await self._running().calls.delete(task_id)

    async def read(self, path: str | Link) -> Mapping[str, Any]:
        """GET any other resource under this URL, once, decoded.

        Args:
            path: A path below ``/api/``, a `Link` or an Href, whose path alone is
                used: a related restore session, say.

        Returns:
            XML as xmltodict gives it (attributes as ``@Name``), without namespaces;
            JSON as it is.

        Raises:
            StatusError: The server refused.
            TransportError, MalformedReplyError: No usable reply came.
            ValueError, TypeError: Not a path below this URL; nothing was sent.
        """
        hide = self._secrets.hide_in_path
        relative = resource_path(path, self._settings.base, hide)
        return await self._running().calls.read(relative)

    # --- job sessions

    @names_nearest
    async def run(
        self,
        path: str | Link,
        body: Body | None = None,
        *,
        method: Literal["POST", "PUT", "DELETE"] = "POST",
        timeout: float | None = None,  # noqa: ASYNC109 - the public surface has it
        find_timeout: float = FIND_TIMEOUT,
    ) -> Run:
        """Start a job and return once its job session has ended well.

        `submit`, then `follow`. Before it sends the action it asks which job
        sessions there are already, so that none of them is taken for the new one; a
        refusal of that question is no error. Cancelling it stops nothing on the server.

        Args:
            path: As `submit` takes it.
            body: As `submit` takes it.
            method: "POST", "PUT" or "DELETE".
            timeout: Seconds for all of it; None for ever. An action that was sent is
                waited for all the same.
            find_timeout: Seconds after the end of the task for which its job session is
                searched.

        Returns:
            The task with its job session, which is None if the action makes none.

        Raises:
            SessionFailedError: The job failed; it has the reason of each machine.
            SessionLostError: The client can no longer learn of the job session, or none
                was found.
            TaskFailedError, TaskLostError: The task failed or was lost.
            WatchTimeoutError: `timeout` seconds passed.
            SubmitUncertainError: No reply came; it may have been carried out.
            StatusError, MalformedReplyError: As `submit` raises them.
            LogonError, TransportError, CertificateError: It cannot go on.
            ClosedError: The manager is not open, or was closed meanwhile.
            ValueError, TypeError: An argument is wrong; nothing was sent.
        """
        request = self._action(path, body, method)
        seconds = check_timeout(timeout)
        search = _search(find_timeout, follow=True)
        runtime = self._running()
        limit = None if seconds is None else runtime.engine.time_limit(seconds)
        task = await runtime.calls.submit(request, follow=True)
        if limit is not None:
            limit = limit.going_on(runtime.loop.time())
        watch = self._watch([task.task_id], limit=limit, find_timeout=search)
        return await followed(watch)

    @names_nearest
    async def follow(
        self,
        task: TaskLike,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the public surface has it
        find_timeout: float = FIND_TIMEOUT,
    ) -> Run:
        """Return once the job session that a task has started has ended well.

        Of a task that no `submit` of this manager gave, the job is not known: its job
        session is found if the task links to it.

        Args:
            task: An ID, a `Task` or an Href.
            timeout: Seconds to wait; None for ever.
            find_timeout: Seconds after the end of the task for which its job session is
                searched.

        Returns:
            The task with its job session, which is None if the action makes none.

        Raises:
            SessionFailedError: The job failed; it has the reason of each machine.
            SessionLostError: The client can no longer learn of the job session, or none
                was found.
            TaskFailedError, TaskLostError: The task failed or was lost.
            WatchTimeoutError: `timeout` seconds passed.
            LogonError, TransportError, CertificateError: It cannot go on.
            ClosedError: The manager is not open, or was closed meanwhile.
            ValueError, TypeError: An argument is wrong.
        """
        task_id = self._lifetime.origins.id_of(task)
        search = _search(find_timeout, follow=True)
        watch = self._watch([task_id], timeout=timeout, find_timeout=search)
        return await followed(watch)

    async def fetch_session(self, session: SessionLike) -> JobSession:
        """GET one job session, once.

        Args:
            session: A path below ``/api/`` (``backupSessions/ID``), a `Link` or an Href
                of one, whose path alone is used, or a `JobSession`.

        Raises:
            StatusError: The server does not know it, or refused.
            ForbiddenError: This account may not read it.
            TransportError, MalformedReplyError: No usable reply came.
            ValueError, TypeError: Not a job session; nothing was sent.
        """
        hide = self._secrets.hide_in_path
        path = session_path(session, self._settings.base, hide)
        return await self._running().calls.fetch_session(path)

    async def fetch_session_tasks(self, session: JobSession) -> tuple[TaskSession, ...]:
        """GET the machines (or shares) of a job session, every page.

        A restore has none of its own.

        Raises:
            StatusError, TransportError, MalformedReplyError: No usable reply came.
            ForbiddenError: This account may not read them.
            TypeError: Not a `JobSession`.
        """
        return await self._running().calls.fetch_session_tasks(session)

    # --- inspection

    @property
    def url(self) -> str:
        """The base URL, ending in ``/api/``."""
        return str(self._settings.base)

    @property
    def token(self) -> str | None:
        """The token of the logon session: a secret. None without one."""
        token = None if self._runtime is None else self._runtime.session.token
        return None if token is None else str(token.reveal())

    @property
    def session_id(self) -> str | None:
        """The ID of the logon session: as secret as the token. None if unknown."""
        session_id = None if self._runtime is None else self._runtime.session.session_id
        return None if session_id is None else str(session_id.reveal())

    @property
    def reference(self) -> str | None:
        """What stands for the logon session: safe to store, print and compare.

        It is the same for all that share the logon session, and another after a
        renewal; no token or ID can be learnt from it. None without a logon session.
        """
        return None if self._runtime is None else self._runtime.session.reference

    def _measures(self) -> Measures:
        """Return what a scrape tells of now; may be called in any thread."""
        return self._lifetime.measures()

    def statistics(self) -> Statistics:
        """Return what this manager has done so far, as a frozen record."""
        return self._lifetime.statistics()

    def __repr__(self) -> str:
        if getattr(self, "_lifetime", None) is None:
            # Of a wrong argument's traceback, say.
            return "<SessionManager: not made>"
        account = "an adopted logon session"
        if self._lifetime.credentials is not None:
            account = self._lifetime.credentials.username
        count = self.statistics().watched
        state = f"logged on, {counted(count, 'task')} watched"
        if self._runtime is not None and self._runtime.session.refused is not None:
            state = "logon refused: open() tries again"
        elif self._runtime is None or not self._runtime.is_open:
            state = "not open"
        return f"<SessionManager {self.url} as {account}: {state}>"


of_the_package(
    SessionManager,
)
