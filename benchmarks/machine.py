"""What a figure depends on besides the code: the machine and the versions."""

import datetime as dt
import importlib.metadata
import os
import platform
import ssl
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "aiohttp",
    "anyio",
    "attrs",
    "httpx",
    "requests",
    "urllib3",
    "veeam-tasks",
    "xmltodict",
    "yarl",
)


def record() -> dict[str, Any]:
    """Return the machine and the versions, for the results."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def moment() -> dict[str, Any]:
    """Return when an experiment ran, on which code and how busy the machine was."""
    now = dt.datetime.now(dt.UTC)
    return {
        "when": now.isoformat(timespec="seconds"),
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 2),
    }


def cores() -> tuple[int | None, int | None]:
    """Return the core of the client and that of the server, where there are two."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[-1], usable[0]) if len(usable) > 1 else (usable[0], usable[0])


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor()
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words],
            capture_output=True,
            check=True,
            cwd=Path(__file__).parent,
            text=True,
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../veeam_tasks")
        return git("rev-parse", "--short", "HEAD") + (" and changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
