"""What is run when a task failed or is lost: the user's own command."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import attrs

import veeam_tasks as vt
from veeam_tasks.cli._json_lines import event_object
from veeam_tasks.cli._messages import visible, warn
from veeam_tasks.cli._password import split_command, without_secrets

_AT_ONCE = 4


@attrs.define(eq=False)
class FailureHook:
    """Runs a command for each task that failed or is lost; its own failure is told.

    It never changes the exit status: what became of the tasks is what counts.

    Args:
        words: The command, run without a shell and without our secrets.
    """

    words: tuple[str, ...]
    _running: set[asyncio.Task[None]] = attrs.field(factory=set)
    _slots: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_AT_ONCE))

    @classmethod
    def parse(cls, written: str | None) -> "FailureHook | None":
        """Return what runs a command, if one is given.

        Raises:
            click.UsageError: It is no command.
        """
        return None if written is None else cls(split_command(written, "--on-failure"))

    def start(self, event: "vt.TaskEvent") -> None:
        """Run the command for an event, beside the watch."""
        task = asyncio.get_running_loop().create_task(
            self._run(event.task_id, event_object(event))
        )
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Wait until all have ended; if cancelled, end them."""
        try:
            while self._running:
                await asyncio.wait(self._running)
        except asyncio.CancelledError:
            running = list(self._running)
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            raise

    async def _run(self, task_id: str, value: dict[str, object]) -> None:
        content = f"{json.dumps(value)}\n".encode()
        async with self._slots:
            try:
                status = await _carry_out(self.words, content)
                problem = f"exited with {status}" if status else ""
                if status < 0:
                    problem = f"was ended by {_signal_name(-status)}"
            except OSError as error:
                problem = f"cannot be run: {error.strerror or error}"
        if problem:
            command = visible(self.words[0])
            warn(f"--on-failure: {command} {problem} (for {task_id})")


async def _carry_out(words: tuple[str, ...], content: bytes) -> int:
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        # Standard output is for our own lines.
        stdout=_standard_error(),
        env=without_secrets(os.environ),
    )
    try:
        with suppress(ConnectionError):
            # Whoever does not read the event is no failure.
            await process.communicate(content)
        return await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _standard_error() -> Any:
    try:
        return sys.__stderr__.fileno() if sys.__stderr__ else asyncio.subprocess.DEVNULL
    except (OSError, ValueError):
        return asyncio.subprocess.DEVNULL


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
