"""The provider within Airflow itself: `nox -s airflow` installs it.

`dag.test()` runs operator, deferral and trigger in this process, on SQLite.
"""

import importlib
import re
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import veeam_tasks.airflow
from veeam_tasks.simulator import ThreadedServer

try:
    metadata.version("apache-airflow-task-sdk")
except metadata.PackageNotFoundError:
    pytest.skip("Airflow is not installed: nox -s airflow", allow_module_level=True)

from support.airflow_itself import connected, new_dag, run, xcom

README = Path(veeam_tasks.airflow.__file__).with_name("README.md")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("airflow_home"),
]


def test_airflow_finds_the_provider_its_form_and_its_link() -> None:
    """By the entry point alone; every class that it names can be imported."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert "veeam-tasks" in manager.providers
    hook = manager.hooks["veeam_em"]
    assert hook is not None
    assert hook.hook_class_name == "veeam_tasks.airflow.hooks.VeeamHook"
    assert "veeam_tasks.airflow.links.VeeamConsoleLink" in (
        manager.extra_links_class_names
    )
    widgets = manager.connection_form_widgets
    fields = {widgets[name].field_name for name in widgets if "veeam_em" in name}
    assert {"fingerprint", "ca_file", "insecure"} <= fields


def test_what_the_provider_says_of_itself_fits_the_schema_of_airflow() -> None:
    """The manager checks it too, and leaves out a provider that does not fit."""
    from airflow.providers_manager import _create_provider_info_schema_validator

    from veeam_tasks.airflow._info import get_provider_info

    _create_provider_info_schema_validator().validate(get_provider_info())


def test_a_dag_survives_being_serialised() -> None:
    """The scheduler knows it in that form alone."""
    from airflow.serialization.serialized_objects import DagSerialization

    from veeam_tasks.airflow.operators import VeeamActionOperator, VeeamActionsOperator
    from veeam_tasks.airflow.sensors import VeeamTaskSensor

    with new_dag("round_trip") as dag:
        VeeamActionOperator(task_id="one", job="Nightly", retries=3)
        VeeamActionsOperator(task_id="many", paths=["jobs/1?action=start"])
        VeeamTaskSensor(task_id="sensor", tasks="task-1")
        VeeamActionOperator.partial(task_id="mapped").expand(job=["a", "b"])
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert set(again.task_ids) == {"one", "many", "sensor", "mapped"}
    assert set(again.get_task("one").template_fields) >= {"job", "path", "body"}
    assert [link.name for link in again.get_task("one").operator_extra_links] == [
        "Enterprise Manager"
    ]


def test_a_trigger_survives_the_database_and_holds_no_secret() -> None:
    """Another triggerer makes it from its arguments, which Airflow encrypts."""
    from airflow.models.trigger import Trigger

    from veeam_tasks.airflow.triggers import VeeamTrigger

    checkpoint = {"task": "task-1", "watch": {"version": 1, "tasks": [1, None]}}
    trigger = VeeamTrigger(
        veeam_conn_id="em", reference="abc", checkpoints={"0": checkpoint}
    )
    row = Trigger.from_object(trigger)
    assert "task-1" not in row.encrypted_kwargs
    again = VeeamTrigger(**row.kwargs)
    assert again.serialize() == trigger.serialize()
    assert not re.search("token|password|session_id", repr(again))


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("Working 20s, Stopped", "success"),
        ("Working 20s, Stopped warning", "success"),
        ("Working 20s, Stopped failed", "failed"),
    ],
)
def test_the_airflow_task_ends_as_the_job_did(
    server: ThreadedServer, script: str, state: str
) -> None:
    """Not as its start did: that has succeeded in each case."""
    from veeam_tasks.airflow.operators import VeeamActionOperator

    server.add_job("Nightly", session=script, machines={"db01": None})
    name = f"ends_{abs(hash(script))}"
    with connected(server) as conn_id, new_dag(name) as dag:
        VeeamActionOperator(task_id="one", job="Nightly", veeam_conn_id=conn_id)
        assert run(dag) == {"one": state}
    outcome = xcom(name, "one")
    assert outcome["session"]["job_name"] == "Nightly"
    assert outcome["action"] == "start Nightly"
    assert len(server.logons) == 1


@pytest.mark.parametrize(
    ("on_warning", "state"), [("skip", "skipped"), ("fail", "failed")]
)
def test_the_operator_says_what_a_warning_does(
    server: ThreadedServer, on_warning: str, state: str
) -> None:
    """It succeeds by default."""
    from veeam_tasks.airflow.operators import VeeamActionOperator

    server.add_job("Nightly", session="Working 5s, Stopped warning")
    with connected(server) as conn_id, new_dag(f"warning_{on_warning}") as dag:
        VeeamActionOperator(
            task_id="one", job="Nightly", veeam_conn_id=conn_id, on_warning=on_warning
        )
        assert run(dag) == {"one": state}


def test_many_actions_have_one_report(server: ThreadedServer) -> None:
    """It counts, names each action, and fails the task if one failed."""
    from veeam_tasks.airflow.operators import VeeamActionsOperator

    server.add_job("Good", session="Working 5s, Stopped")
    server.add_job("Bad", session="Working 5s, Stopped failed")
    with connected(server) as conn_id, new_dag("many") as dag:
        VeeamActionsOperator(
            task_id="all",
            jobs=["Good", "Bad"],
            paths=["jobs/00000000-0000-0000-0000-000000000000?action=start"],
            veeam_conn_id=conn_id,
        )
        assert run(dag) == {"all": "failed"}
    report = xcom("many", "all")
    assert (report["succeeded"], report["failed"]) == (1, 2)
    assert [one["outcome"] for one in report["actions"]] == [
        "failed",
        "succeeded",
        "failed",
    ]
    assert "not carried out" in report["actions"][0]["error"]


def test_a_sensor_waits_for_what_an_operator_only_started(
    server: ThreadedServer,
) -> None:
    """Both use the logon session that the task belongs to."""
    from veeam_tasks.airflow.operators import VeeamActionOperator
    from veeam_tasks.airflow.sensors import VeeamTaskSensor

    server.add_job("Nightly", session="Working 5s, Stopped")
    with connected(server) as conn_id, new_dag("later") as dag:
        started = VeeamActionOperator(
            task_id="start", job="Nightly", veeam_conn_id=conn_id, wait=False
        )
        VeeamTaskSensor(task_id="end", tasks=started.output, veeam_conn_id=conn_id)
        assert run(dag) == {"start": "success", "end": "success"}
    assert xcom("later", "end")["actions"][0]["session"]["job_name"] == "Nightly"
    assert len(server.logons) == 1


def test_a_wrong_password_is_sent_once(server: ThreadedServer) -> None:
    """However many tasks there are; the error says what to do."""
    from veeam_tasks.airflow.operators import VeeamActionOperator

    with connected(server, password="wrong-one") as conn_id, new_dag("wrong") as dag:
        for number in range(3):
            VeeamActionOperator(
                task_id=f"t{number}", job="Backup Job 1", veeam_conn_id=conn_id
            )
        assert set(run(dag).values()) == {"failed"}
    assert [one.accepted for one in server.logons] == [False]


def test_the_button_of_the_form_logs_on_and_out(server: ThreadedServer) -> None:
    """It shares no logon session: what it tries is the form."""
    from airflow.sdk import Connection

    def test_of(password: str) -> tuple[bool, str]:
        host, _, port = server.url.rpartition(":")
        return Connection(
            conn_id="form",
            conn_type="veeam_em",
            host=host,
            port=int(port),
            login="admin",
            password=password,
        ).test_connection()

    good, text = test_of("admin-secret")
    assert good, text
    good, text = test_of("wrong-one")
    assert not good
    assert "wrong-one" not in text
    assert not server.logon_sessions


def dags_of_readme(folder: Path) -> Any:
    """Return the DAG bag of a folder with the code of the README, each block a file."""
    from airflow.dag_processing.dagbag import DagBag

    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for number, text in enumerate(code):
        (folder / f"example_{number}.py").write_text(text)
    return DagBag(str(folder))


def test_the_first_example_of_the_readme_runs(
    server: ThreadedServer, tmp_path: Path
) -> None:
    """The DAG processor takes it as it stands."""
    assert "SQL Replication" in {job.name for job in server.jobs}
    bag = dags_of_readme(tmp_path)
    assert bag.import_errors == {}
    with connected(server, "em_berlin"):
        assert run(bag.dags["nightly"]) == {"sql": "success"}


def test_the_readme_starts_here_and_waits_there(
    server: ThreadedServer, tmp_path: Path
) -> None:
    """The sensor takes what the operator has started; the hook sees its task."""
    bag = dags_of_readme(tmp_path)
    with connected(server, "em_berlin"):
        states = run(bag.dags["start_and_wait"])
    assert states == dict.fromkeys(("start", "end", "tasks_there"), "success")
    assert len(server.logons) == 1
    assert server.job_sessions[-1].result == "Success"


def test_every_class_for_dags_has_an_example_in_the_readme() -> None:
    """Those that the provider says an author of DAGs is offered."""
    from veeam_tasks.airflow._info import get_provider_info

    info = get_provider_info()
    modules = [
        name
        for kind in ("hooks", "operators", "sensors")
        for one in info[kind]
        for name in one["python-modules"]
    ]
    offered = {
        name
        for module in map(importlib.import_module, modules)
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and name.startswith("Veeam")
    }
    code = "".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    assert offered
    assert {name for name in offered if name not in code} == set()


def test_the_night_of_the_readme_runs_on_three_servers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each server has one logon; the report names each job and how it ended."""
    jobs = {
        "em_berlin": ["SQL Replication", "File Server", "Exchange", "Copy to tape"],
        "em_paris": ["Web Shop", "Warehouse"],
        "em_rome": ["Archive"],
    }
    with ExitStack() as opened:
        servers = {}
        for name, theirs in jobs.items():
            server = ThreadedServer(speed=50, job_links="always")
            servers[name] = opened.enter_context(server)
            for job in theirs:
                if job in {known.name for known in server.jobs}:
                    continue
                end = "warning" if job == "Warehouse" else ""
                server.add_job(job, session=f"Working 5s, Stopped {end}".strip())
            opened.enter_context(connected(server, name))
        states = run(dags_of_readme(tmp_path).dags["night"])
        assert set(states) == {*jobs, "copy", "report"}
        assert set(states.values()) == {"success"}
        for name, theirs in jobs.items():
            assert len(servers[name].logons) == 1
            sent = [one for one in servers[name].requests if "action=" in one.query]
            assert len(sent) == len(theirs)
    assert xcom("night", "em_paris")["warning"] == 1
    assert "start Warehouse warning" in capsys.readouterr().out
