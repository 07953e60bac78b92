"""The keywords of a server as a type, for what takes them by name.

A marker of pytest takes any keyword, so that no type checker can look at it. Who writes
the options into a variable of this type first has them checked:

    OPTIONS: ServerOptions = {"tasks": 5, "version": "13", "job_links": "late"}

    @pytest.mark.veeam_server(**OPTIONS)
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from veeam_tasks.simulator._accounts import Account
from veeam_tasks.simulator._action_runner import JobLinks, RunningJob
from veeam_tasks.simulator._version import VersionName


class ServerOptions(TypedDict, total=False):
    """The options of the marker ``veeam_server``.

    Those of `SimulatedServer`, which explains them, and ``tasks``: how many tasks there
    are, one script, or several.
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
