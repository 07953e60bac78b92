"""What the tests within Airflow share."""

import shutil
from collections.abc import Iterator

import pytest

from veeam_tasks.simulator import ThreadedServer


@pytest.fixture(scope="session")
def airflow_home() -> Iterator[None]:
    """Make the database of Airflow, and remove its home in the end."""
    from support.airflow_itself import HOME, make_database

    make_database()
    yield
    shutil.rmtree(HOME)


@pytest.fixture
def server() -> Iterator[ThreadedServer]:
    """Give a server whose jobs are over soon."""
    with ThreadedServer(speed=50, job_links="always") as simulated:
        yield simulated
