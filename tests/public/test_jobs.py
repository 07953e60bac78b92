"""Jobs by their names, against the simulated server."""

import pickle
from typing import Any

import pytest

import veeam_tasks as vt
from veeam_tasks.jobs import Job, JobNameError, find_job, is_job_id, pick_job, read_jobs
from veeam_tasks.simulator import Fault, SimulatedServer


def job(name: str, number: int) -> Job:
    """Return a job of that name."""
    guid = f"00000000-0000-0000-0000-{number:012}"
    return Job(name=name, kind="Backup", job_id=guid, path=f"jobs/{guid}")


NIGHTLY, NIGHT, OTHER = job("Nightly", 1), job("night", 2), job("Other", 3)
JOBS = (NIGHTLY, NIGHT, OTHER)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Nightly", NIGHTLY),
        ("NIGHT", NIGHT),
        ("night", NIGHT),
        ("nightl", NIGHTLY),
        ("o", OTHER),
        (OTHER.job_id.upper(), OTHER),
    ],
)
def test_a_name_means_a_job_wholly_or_by_its_beginning(name: str, meant: Job) -> None:
    """ID and exact name first, then without regard to case, then the beginning."""
    assert pick_job(JOBS, name) is meant


def test_a_name_that_fits_two_jobs_names_both() -> None:
    """Which is meant is for the caller to say: nothing is started on a guess."""
    with pytest.raises(JobNameError, match=r"'n' fits 2 jobs: 'Nightly' \(0.*'night'"):
        pick_job(JOBS, "n")


def test_a_name_that_stands_inside_others_names_them() -> None:
    """It starts none of them, but whoever typed it need not ask for the list."""
    with pytest.raises(
        JobNameError, match=r"'ight': .* begins with it; it is in"
    ) as one:
        pick_job(JOBS, "ight")
    assert "'Nightly'" in str(one.value)
    assert one.value.fits == ()


def test_a_name_that_is_misspelt_names_those_like_it() -> None:
    """It is told which may be meant, and none of them is taken."""
    with pytest.raises(
        JobNameError, match="no such job; did you mean 'Nightly'"
    ) as one:
        pick_job(JOBS, "Nihtly")
    assert one.value.near[0] is NIGHTLY


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_means_no_job_even_of_one(name: str) -> None:
    """Each name begins with it; an unset variable must not start the only job."""
    with pytest.raises(JobNameError, match="there is no such job"):
        pick_job([NIGHTLY], name)


@pytest.mark.virtual_time
@pytest.mark.parametrize("name", [None, 7, b"Nightly", NIGHTLY])
async def test_what_is_no_name_is_told_before_anything_is_asked(name: object) -> None:
    """A TypeError that says what names a job, without a request."""
    async with (
        SimulatedServer() as server,
        vt.connect(server.url, username="admin", password="admin-secret") as em,
    ):
        before = len(server.requests)
        wanted: Any = name
        with pytest.raises(TypeError, match="a job is named by its name or"):
            await find_job(em, wanted)
        assert len(server.requests) == before


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("", ValueError),
        ("st art", ValueError),
        (" start", ValueError),
        (None, TypeError),
    ],
)
def test_what_is_no_action_makes_no_path(action: Any, error: type[Exception]) -> None:
    """It is told where it is written, and not by the server."""
    with pytest.raises(error, match="action"):
        NIGHTLY.action_path(action)


def test_a_name_without_a_job_says_so_and_survives_pickling() -> None:
    """The error is one of the package's: typed, and fit for another process."""
    with pytest.raises(vt.VeeamTasksError) as caught:
        pick_job(JOBS, "Nobody\x1b")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == "'Nobody\\x1b': there is no such job"
    assert (again.name, again.fits) == ("Nobody\x1b", ())


@pytest.mark.virtual_time
async def test_jobs_of_every_kind_are_found_and_started_by_name() -> None:
    """Each is listed once with its path; the action's path suits its collection."""
    async with SimulatedServer() as server:
        for kind in ("Backup", "Replica", "AgentBackup", "NasBackup"):
            server.add_job(f"My {kind}", kind=kind)
        async with vt.connect(
            server.url, username="admin", password="admin-secret"
        ) as em:
            found = await read_jobs(em, results=True)
            assert len(found) == len({one.job_id for one in found}) == len(server.jobs)
            for kind in ("Backup", "Replica", "AgentBackup", "NasBackup"):
                mine = await find_job(em, f"my {kind}")
                assert is_job_id(mine.job_id)
                task = await em.wait(await em.submit(mine.action_path("start")))
                assert task.succeeded


async def test_a_server_without_agent_jobs_still_lists_the_others() -> None:
    """Older servers know no /agents and no /nas."""
    async with SimulatedServer() as server:
        server.faults.add(Fault("status", path="agents", status=404))
        server.faults.add(Fault("status", path="nas", status=404))
        async with vt.connect(
            server.url, username="admin", password="admin-secret"
        ) as em:
            found = await read_jobs(em)
    assert found
    assert all(one.path.startswith("jobs/") for one in found)
