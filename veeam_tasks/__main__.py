"""`python -m veeam_tasks`: the shell command.

Short, since it may need nothing that the extra of the shell brings.
"""

import sys


def main() -> int:
    """Run the command line, or say how to install it."""
    try:
        from veeam_tasks.cli import run  # noqa: PLC0415 - click is an extra
    except ModuleNotFoundError as error:
        if error.name not in {"click", "platformdirs", "rich"}:
            raise
        print(  # noqa: T201 - this is the command line
            f"veeam-tasks needs {error.name}, which is not installed."
            ' Install it with: python -m pip install "veeam-tasks[cli]"',
            file=sys.stderr,
        )
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
