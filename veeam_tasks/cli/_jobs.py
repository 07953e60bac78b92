"""Jobs by their names, and any other resource: the commands `jobs` and `read`."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._command import Command
from veeam_tasks.cli._explain import explain
from veeam_tasks.cli._json_lines import write
from veeam_tasks.cli._messages import complain, say, visible
from veeam_tasks.cli._options import output_options, server_options
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._runner import Exit, run_async
from veeam_tasks.cli._server import Server, checking

GUID: Final = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE | re.ASCII
)
_PAGE_SIZE: Final = 500
_MOST_PAGES: Final = 100
_SESSIONS: Final = ("BackupJobSession", "ReplicaJobSession")
_SESSIONS_READ: Final = 500
# Where jobs are, and how an action is written there.
_COLLECTIONS: Final = (
    ("agents/jobs", "{path}?action={action}"),
    ("nas/jobs", "{path}/{action}"),
)


@attrs.frozen(kw_only=True)
class Job:
    """A job as the server lists it.

    Attributes:
        name: Its name.
        kind: What it does, as ``Backup``.
        job_id: Its GUID.
        path: Where it is, below ``/api/``.
        enabled: Whether its schedule is on; None if the server does not say.
        last_result: How its last session ended, or where it stands.
        form: How the path of an action is made.
    """

    name: str
    kind: str
    job_id: str
    path: str
    enabled: bool | None = None
    last_result: str | None = None
    form: str = "{path}?action={action}"

    def action_path(self, action: str) -> str:
        """Return the path of an action on this job."""
        return self.form.format(path=self.path, action=action)

    def as_object(self) -> dict[str, object]:
        """Return what is written as JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "id": self.job_id,
            "path": self.path,
            "enabled": self.enabled,
            "last_result": self.last_result,
        }


async def read_jobs(em: "vt.SessionManager", *, results: bool = False) -> list[Job]:
    """Return the jobs of the server, in the order of their names.

    Args:
        em: A manager that is logged on.
        results: Whether to ask how their last sessions ended, too.

    Raises:
        VeeamTasksError: They could not be read; ForbiddenError: not by this account.
    """
    last = await _last_results(em) if results else {}
    found = [
        _job(entity, "jobs", "{path}?action={action}", last)
        async for entity in _query(em, "Job", _MOST_PAGES * _PAGE_SIZE)
    ]
    for path, form in _COLLECTIONS:
        try:
            resource = await em.read(f"{path}?format=Entity")
        except (vt.StatusError, vt.MalformedReplyError):
            # Older servers have none, and roles may not read them.
            continue
        found += [_job(entity, path, form, last) for entity in _entities(resource)]
    distinct = {job.job_id: job for job in reversed(found)}
    return sorted(distinct.values(), key=lambda job: job.name.casefold())


async def find_job(em: "vt.SessionManager", name: str) -> Job:
    """Return the job of that name, or the one whose name begins so.

    The exact name counts most, then a unique beginning without regard to case.

    Raises:
        click.UsageError: There is none, or more than one.
        VeeamTasksError: The jobs could not be read.
    """
    jobs = await read_jobs(em)
    folded = name.casefold()
    for fits in (
        [job for job in jobs if job.name == name],
        [job for job in jobs if job.name.casefold() == folded],
        [job for job in jobs if job.name.casefold().startswith(folded)],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            listed = ", ".join(f"{job.name!r} ({job.job_id})" for job in fits[:10])
            text = f"--job {name!r} fits {len(fits)} jobs: {visible(listed)}"
            raise click.UsageError(text)
    shown = visible(repr(name))
    text = f"--job {shown}: there is no such job; 'veeam-tasks jobs' lists them"
    raise click.UsageError(text)


async def _last_results(em: "vt.SessionManager") -> dict[str, str]:
    """Return how the last session of each job ended, by the job's GUID."""
    last: dict[str, str] = {}
    for kind in _SESSIONS:
        try:
            async for session in _query(
                em, kind, _SESSIONS_READ, "&sortDesc=CreationTime"
            ):
                job_id = _guid(session.get("jobuid"))
                if job_id is not None:
                    last.setdefault(job_id, _standing(session))
        except (vt.StatusError, vt.MalformedReplyError):
            continue
    return last


def _standing(session: Mapping[str, Any]) -> str:
    state, result = session.get("state"), session.get("result")
    if str(state) == "Stopped" and result not in {None, "None"}:
        return str(result)
    progress = session.get("progress")
    return f"{state} {progress} %" if progress is not None else str(state)


async def _query(
    em: "vt.SessionManager", kind: str, most: int, order: str = ""
) -> "Any":
    """Yield the entities of a query, page by page."""
    seen = 0
    for page in range(1, _MOST_PAGES + 1):
        size = f"pageSize={_PAGE_SIZE}&page={page}"
        result = await em.read(f"query?type={kind}&format=Entities{order}&{size}")
        count = 0
        for entity in _entities(result):
            count += 1
            yield entity
        seen += count
        if count < _PAGE_SIZE or seen >= most:
            return


def _entities(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the resources with a UID of their own in a reply, XML or JSON."""
    if isinstance(value, list):
        for inner in value:
            yield from _entities(inner)
    elif isinstance(value, Mapping):
        members = {key.lstrip("@").lower(): inner for key, inner in value.items()}
        if isinstance(members.get("uid"), str):
            yield members
        else:
            for key, inner in members.items():
                if key != "links":
                    yield from _entities(inner)


def _job(
    entity: Mapping[str, Any], root: str, form: str, last: Mapping[str, str]
) -> Job:
    job_id = _guid(entity["uid"]) or str(entity["uid"])
    enabled = entity.get("scheduleenabled")
    return Job(
        name=str(entity.get("name") or job_id),
        kind=str(entity.get("jobtype") or entity.get("type") or ""),
        job_id=job_id,
        path=f"{root}/{job_id}",
        enabled=None if enabled is None else str(enabled).lower() == "true",
        last_result=last.get(job_id),
        form=form,
    )


def _guid(uid: Any) -> str | None:
    found = GUID.search(str(uid or ""))
    return None if found is None else found[0].lower()


def why_no_jobs(error: vt.VeeamTasksError) -> str:
    """Return what to do where the jobs could not be read."""
    if isinstance(error, vt.ForbiddenError):
        return (
            "this account may not read the jobs, so they cannot be found by name; pass"
            " the path with the job's ID: veeam-tasks submit 'jobs/ID?action=start'"
        )
    return explain(error)


def complete_job(
    ctx: click.Context,  # noqa: ARG001 - click's signature
    param: click.Parameter,  # noqa: ARG001 - click's signature
    incomplete: str,
) -> list[str]:
    """Return the names of jobs for a shell's completion.

    Only over a logon session that is open already: Tab asks for no password.
    """
    import asyncio  # noqa: PLC0415 - only for Tab
    import os  # noqa: PLC0415 - as above

    token, url = os.environ.get("VEEAM_EM_TOKEN"), os.environ.get("VEEAM_EM_URL")
    if not token or not url:
        return []

    async def names() -> list[str]:
        adopted = vt.adopt(
            url,
            token,
            session_id=os.environ.get("VEEAM_EM_SESSION_ID") or None,
            ca_file=os.environ.get("VEEAM_EM_CA_FILE") or None,
            fingerprint=os.environ.get("VEEAM_EM_FINGERPRINT") or None,
        )
        async with asyncio.timeout(_COMPLETION_SECONDS), adopted as em:
            return [job.name for job in await read_jobs(em)]

    try:
        found = asyncio.run(names())
    except (vt.VeeamTasksError, ValueError, TimeoutError, OSError):
        return []
    folded = incomplete.casefold()
    return [name for name in found if name.casefold().startswith(folded)]


_COMPLETION_SECONDS = 5.0


@click.command(
    cls=Command,
    short_help="List the jobs of the server.",
    examples=(
        "veeam-tasks jobs",
        "veeam-tasks jobs --json | jq -r 'select(.enabled).name'",
        'veeam-tasks submit --job "Oracle Backup"',
    ),
)
@server_options
@output_options
def jobs(*, server: Server, output: OutputMode) -> int:
    """List the jobs of the server: name, kind, ID, whether enabled, last result.

    The last result is that of the job's newest session; a job without one among the
    newest 500 has none. The exit status is 0 whatever the results.
    """
    session = server.session()

    async def work() -> Exit:
        async with session as em:
            try:
                found = await read_jobs(em, results=True)
            except vt.ForbiddenError as error:
                complain(why_no_jobs(error))
                return Exit.REFUSED
        if output.wants_objects:
            for job in found:
                write(job.as_object())
        elif found:
            from veeam_tasks.cli._tables import print_jobs  # noqa: PLC0415 - rich

            print_jobs([_columns(job) for job in found])
        if not found and not output.quiet:
            say("The server has no jobs that this account may see.")
        return Exit.OK

    return run_async(work, on_signal=session.abort)


def _columns(job: Job) -> Sequence[str]:
    enabled = {True: "yes", False: "no", None: ""}[job.enabled]
    last = job.last_result or ""
    return tuple(map(visible, (job.name, job.kind, enabled, last, job.job_id)))


@click.command(
    cls=Command,
    short_help="Print any resource as JSON.",
    examples=(
        "veeam-tasks read jobs",
        "veeam-tasks read 'jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?format=Entity'",
        "veeam-tasks read 'query?type=Job&format=Entities' | jq .QueryResult.Entities",
    ),
)
@click.argument("path")
@server_options
@output_options
def read(*, path: str, server: Server, output: OutputMode) -> int:
    """Print any resource of the server as JSON; PATH is what stands below /api/.

    XML is decoded as it is, attributes as "@Name". On a terminal it is indented, into
    a pipe it is one line.
    """
    session = server.session()

    async def work() -> Exit:
        async with session as em:
            with checking(server):
                value = await em.read(path)
        if output.wants_objects:
            write(value)
        else:
            sys.stdout.write(f"{json.dumps(value, indent=2)}\n")
            sys.stdout.flush()
        return Exit.OK

    return run_async(work, on_signal=session.abort)
