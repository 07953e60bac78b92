"""What has to work where the wheel is installed, whatever is installed beside it.

Run by `nox -s installs` in a folder that has no checkout: `python smoke.py README.md`.
"""

import contextlib
import io
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import veeam_tasks

EXAMPLE = re.compile(
    r"<!-- run -->\n```python\n(.*?)```.*?<!-- output -->\n```text\n(.*?)```", re.DOTALL
)


def shell(*words: str) -> tuple[int, str]:
    """Run the shell; return its exit status and what it printed."""
    command = [sys.executable, "-m", "veeam_tasks", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def main() -> None:
    """Use each part once.

    Raises:
        AssertionError: Something is not as it should be.
    """
    here = Path(veeam_tasks.__file__).parent
    assert here.parent.name == "site-packages", here
    assert (here / "py.typed").exists()
    assert version("veeam-tasks") == veeam_tasks.__version__
    for name in veeam_tasks.__all__:
        assert getattr(veeam_tasks, name) is not None
    found = EXAMPLE.search(Path(sys.argv[1]).read_text(encoding="utf-8"))
    assert found is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(found[1], "README.md", "exec"), {"__name__": "__main__"})
    assert printed.getvalue() == found[2], printed.getvalue()
    status, said = shell("watch", "--simulate", "3", "--speed", "20", "--tls")
    assert status == (1 if "1 failed" in said else 2), said
    status, said = shell("--version")
    assert status == 0, said
    assert veeam_tasks.__version__ in said
    print(f"{sys.version.split()[0]}: all is well")


if __name__ == "__main__":
    main()
