"""End what a run started, even if the run was killed: ``cleanup.py FOLDER``.

Its standard input is a pipe that the run holds and never writes to. When that ends, so
has the run, and what still works in the folder, or has it as AIRFLOW_HOME, is ended.
Airflow gives tasks process groups of their own, so a group is not enough to find them.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

SECONDS = 20


def processes_of(folder: Path) -> list[int]:
    """Return the processes that a run in this folder has started."""
    mark = f"AIRFLOW_HOME={folder}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            works_at = (entry / "cwd").readlink()
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
            if marked or works_at.is_relative_to(folder):
                found.append(int(entry.name))
    return [number for number in found if number != os.getpid()]


def end_all(folder: Path) -> bool:
    """End them; tell whether none is left."""
    began = time.monotonic()
    database = 0
    with suppress(OSError, ValueError):
        # PostgreSQL ends its own processes then, and gives its shared memory back.
        database = int((folder / "database/postmaster.pid").read_text().split()[0])
        if database in processes_of(folder):
            os.kill(database, signal.SIGQUIT)
    while time.monotonic() < began + SECONDS:
        left = processes_of(folder)
        if not left:
            return True
        is_late = time.monotonic() > began + SECONDS / 4
        for number in left:
            if is_late or not _is_of_database(number, folder):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        time.sleep(0.1)
    return False


def _is_of_database(number: int, folder: Path) -> bool:
    with suppress(OSError):
        works_at = Path(f"/proc/{number}/cwd").readlink()
        return works_at.is_relative_to(folder / "database")
    return False


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sys.exit(0 if end_all(Path(sys.argv[1])) else 1)
