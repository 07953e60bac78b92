"""Following a watch to its end: what `watch` and `submit` have in common."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import veeam_tasks as vt
from veeam_tasks.cli._board import Board, outcome_of
from veeam_tasks.cli._ends import Exit, drive, first_of, status_of
from veeam_tasks.cli._shows import Show
from veeam_tasks.cli._streams import hush
from veeam_tasks.cli._words import complain, spoken


def show_to_end(show: Show, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run `work`, which tells `show`; return the exit status."""
    status = drive(work)
    if show.is_stuck:
        # A thread still writes to a pipe that nobody reads; it must not hold us.
        os._exit(status)
    return status


async def follow(watch: "vt.Watch", show: Show, *, fail_fast: bool) -> Exit:
    """Read a watch to its end and tell `show` of it; return the exit status.

    Args:
        watch: What to read; it is closed.
        show: Was begun; it is closed and gives its summary.
        fail_fast: End with the first task that failed or was lost.

    Raises:
        asyncio.CancelledError: A signal ended it; the summary was given.
    """
    failure: vt.VeeamTasksError | None = None
    is_heard = True
    try:
        failure = await _read(watch, show, fail_fast=fail_fast)
    except BrokenPipeError:
        is_heard = False
        hush(sys.stdout)
    except asyncio.CancelledError:
        show.close()
        show.summary(watch.report.unfinished)
        raise
    finally:
        show.close()
        await watch.aclose()
    if is_heard:
        show.summary(watch.report.unfinished)
    if failure is None:
        return _verdict(show.board)
    complain(spoken(str(failure)))
    return first_of(status_of(failure), _verdict(show.board))


async def _read(
    watch: "vt.Watch", show: Show, *, fail_fast: bool
) -> vt.VeeamTasksError | None:
    """Return what cut the watch short, if anything did."""
    try:
        async for event in watch:
            await show.event(event)
            if fail_fast and outcome_of(event) in {"failed", "lost"}:
                break
    except vt.VeeamTasksError as error:
        return error
    return None


def _verdict(board: Board) -> Exit:
    return Exit.FAILED if board.failures else Exit.OK
