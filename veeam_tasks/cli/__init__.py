"""The shell: `veeam-tasks`. It shows what the package root decides; see `run`."""

import sys
from collections.abc import Sequence

import click
import rich  # noqa: F401 - so that a missing extra is told before anything is done

from veeam_tasks.cli._exits import Exit, report_output
from veeam_tasks.cli._messages import complain
from veeam_tasks.cli._streams import hush, is_output_broken, standard_streams, tell

__all__ = ["run"]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit status.

    Args:
        arguments: What follows the program's name; None takes it from `sys.argv`.
    """
    with standard_streams():
        try:
            return _run(arguments)
        except OSError as error:
            return report_output(error)
        except SystemExit:
            # So click ends when nobody reads its help any more.
            if not is_output_broken():
                raise
            hush(sys.stdout)
            return Exit.OK


def _run(arguments: Sequence[str] | None) -> int:
    from veeam_tasks.cli._main import main  # noqa: PLC0415 - after the extras

    try:
        status = main.main(
            args=None if arguments is None else list(arguments),
            prog_name="veeam-tasks",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        tell(error.format_message())
        return Exit.USAGE
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        complain(_with_hint(error, context), context)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    return status if isinstance(status, int) else Exit.OK


def _with_hint(error: click.ClickException, context: click.Context | None) -> str:
    """Return what is wrong; where click says no more than that, with where to look."""
    text = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        near = " or ".join(repr(name) for name in sorted(error.possibilities))
        return f"{error.message.rstrip('.')}; did you mean {near}?"
    is_bare = isinstance(error, click.NoSuchOption | click.MissingParameter)
    if context is None or not (is_bare or text.startswith("Got unexpected")):
        return text
    return f"{text.rstrip('.')}; see '{context.command_path} --help'"
