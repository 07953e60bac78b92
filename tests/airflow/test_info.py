"""What Airflow is told of the provider; Airflow itself is not needed for this."""

import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

from veeam_tasks.airflow._info import get_provider_info


def test_the_distribution_has_the_entry_point() -> None:
    """Airflow finds a provider by this group; the name leads to the function."""
    found = [
        point
        for point in metadata.distribution("veeam-tasks").entry_points
        if point.group == "apache_airflow_provider"
    ]
    assert [point.value for point in found] == [
        "veeam_tasks.airflow._info:get_provider_info"
    ]
    assert found[0].load() is get_provider_info


def test_asking_for_the_info_imports_nothing_of_airflow() -> None:
    """Every command of Airflow asks, while Airflow is being imported."""
    code = (
        "import sys\n"
        "from veeam_tasks.airflow._info import get_provider_info\n"
        "get_provider_info()\n"
        "print([n for n in sys.modules"
        " if n.split('.')[0] in ('airflow', 'aiohttp', 'attrs')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_every_module_that_is_named_is_there() -> None:
    """A class that cannot be found is a warning in every command of Airflow."""
    info = get_provider_info()
    named = [
        module
        for kind in ("operators", "sensors", "hooks", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    ]
    named += [path.rpartition(".")[0] for path in info["extra-links"]]
    package = util.find_spec("veeam_tasks.airflow")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent
    for name in named:
        assert (folder / f"{name.rpartition('.')[2]}.py").exists(), name
