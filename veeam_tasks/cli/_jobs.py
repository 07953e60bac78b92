"""Jobs by their names, and any other resource: the commands `jobs` and `read`."""

import json
import sys
from collections.abc import Sequence

import click

import veeam_tasks as vt
from veeam_tasks.cli._command import Command
from veeam_tasks.cli._exits import Exit
from veeam_tasks.cli._explain import explain
from veeam_tasks.cli._json_lines import write
from veeam_tasks.cli._messages import complain, say, visible
from veeam_tasks.cli._options import output_options, server_options
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._runner import run_async
from veeam_tasks.cli._server import Server, checking
from veeam_tasks.jobs import Job, JobNameError, find_job, read_jobs


async def job_named(em: "vt.SessionManager", name: str) -> Job:
    """Return the job that the option ``--job`` means.

    Raises:
        click.UsageError: There is none, or more than one.
        VeeamTasksError: The jobs could not be read.
    """
    try:
        return await find_job(em, name)
    except JobNameError as error:
        hint = "" if error.fits or error.near else "; 'veeam-tasks jobs' lists them"
        text = f"--job {error}{hint}"
    raise click.UsageError(text)


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

    url = os.environ.get("VEEAM_EM_URL")
    if not os.environ.get("VEEAM_EM_TOKEN") or not url:
        return []

    async def names() -> list[str]:
        adopted = vt.adopt(
            url,
            os.environ["VEEAM_EM_TOKEN"],
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
    logon = server.logon()

    async def work() -> Exit:
        async with logon as em:
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

    return run_async(work, on_signal=logon.abort)


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
    logon = server.logon()

    async def work() -> Exit:
        async with logon as em:
            with checking(server):
                value = await em.read(path)
        if output.wants_objects:
            write(value)
        else:
            sys.stdout.write(f"{json.dumps(value, indent=2)}\n")
            sys.stdout.flush()
        return Exit.OK

    return run_async(work, on_signal=logon.abort)
