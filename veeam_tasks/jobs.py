"""The jobs of an Enterprise Manager by their names, as people call them.

Actions are sent to the ID of a job. This finds it::

    import veeam_tasks as vt
    from veeam_tasks.jobs import find_job

    job = await find_job(em, "SQL Replication")
    task = await em.submit(job.action_path("start"))
"""

import difflib
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

import veeam_tasks as vt
from veeam_tasks._redaction import quoted

__all__ = ["Job", "JobNameError", "find_job", "is_job_id", "pick_job", "read_jobs"]

_GUID: Final = re.compile(
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
        last_result: How its last job session ended, or where it stands.
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
        """Return the path of an action on this job, as ``action_path("start")``.

        Raises:
            TypeError: An action is no string.
            ValueError: It is empty, or has blanks in it.
        """
        if not isinstance(action, str):
            text = f"action must be a string, not {type(action).__name__}"
            raise TypeError(text)
        if action.split() != [action]:
            raise vt.ArgumentError(
                parameter="action",
                problem="it must be one word, as 'start'",
                shown=quoted(action),
            )
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
        results: Whether to ask how their last job sessions ended, too.

    Raises:
        VeeamTasksError: They could not be read; ForbiddenError: not by this account.
        TypeError: `results` is neither True nor False; nothing was sent.
    """
    if not isinstance(results, bool):
        text = f"results must be True or False, not {results!r}"
        raise TypeError(text)
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
    """Return the job of that name or ID, or the one whose name begins so.

    Args:
        em: A manager that is logged on.
        name: As `pick_job` takes it.

    Raises:
        JobNameError: There is none, or more than one.
        VeeamTasksError: The jobs could not be read.
        TypeError: A name is no string; nothing was sent.
    """
    _check_name(name)
    return pick_job(await read_jobs(em), name)


def pick_job(jobs: Sequence[Job], name: str) -> Job:
    """Return the one of these jobs that a name means.

    The ID and the exact name count most, then the name without regard to case, then a
    unique beginning of it.

    Raises:
        JobNameError: There is none, or more than one.
        TypeError: A name is no string.
    """
    _check_name(name)
    folded = name.casefold()
    for fits in (
        [job for job in jobs if name == job.name or folded == job.job_id],
        [job for job in jobs if job.name.casefold() == folded],
        [job for job in jobs if job.name.casefold().startswith(folded)],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise JobNameError(name=name, fits=tuple(fits))
    inside = [job for job in jobs if folded in job.name.casefold()]
    names = {job.name.casefold(): job for job in jobs}
    near = difflib.get_close_matches(folded, names, _NEAR)
    raise JobNameError(
        name=name, inside=tuple(inside), near=tuple(names[one] for one in near)
    )


def _check_name(name: object) -> None:
    """Refuse what names no job, before the jobs are asked for.

    Every name begins with the empty one, which a variable of a shell may be: where
    there is one job alone it would be started.
    """
    if not isinstance(name, str):
        text = f"a job is named by its name or its ID, not {type(name).__name__}"
        raise TypeError(text)
    if not name.strip():
        raise JobNameError(name=name)


def is_job_id(name: str) -> bool:
    """Tell whether a name is the ID of a job, so that nothing has to be looked up."""
    return _GUID.fullmatch(name) is not None


class JobNameError(vt.VeeamTasksError):
    """No job is called that, or more than one. Whoever wrote the name corrects it.

    Attributes:
        name: The name that was looked for.
        fits: The jobs that it may mean; empty if there is none.
        inside: Where there is none: the jobs that have it further on in their names.
        near: Where there is none: those whose names are much like it.
    """

    name: str
    fits: tuple[Job, ...]
    inside: tuple[Job, ...]
    near: tuple[Job, ...]

    def __init__(
        self,
        *,
        name: str,
        fits: tuple[Job, ...] = (),
        inside: tuple[Job, ...] = (),
        near: tuple[Job, ...] = (),
    ) -> None:
        what = f"{name!r}: there is no such job"
        if fits:
            listed = ", ".join(f"{job.name!r} ({job.job_id})" for job in fits[:_SHOWN])
            what = f"{name!r} fits {len(fits)} jobs: {listed}"
        elif inside:
            listed = ", ".join(repr(job.name) for job in inside[:_SHOWN])
            what = f"{name!r}: the name of no job begins with it; it is in {listed}"
        elif near:
            listed = " or ".join(repr(job.name) for job in near)
            what += f"; did you mean {listed}?"
        super().__init__(what)
        self.name = name
        self.fits = fits
        self.inside = inside
        self.near = near


_SHOWN = 10
_NEAR = 1


async def _last_results(em: "vt.SessionManager") -> dict[str, str]:
    """Return how the last job session of each ended, by the GUIDs of the jobs."""
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
) -> AsyncIterator[dict[str, Any]]:
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
    found = _GUID.search(str(uid or ""))
    return None if found is None else found[0].lower()
