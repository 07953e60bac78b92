"""A program of somebody's: starts jobs, follows them, and may be killed at any moment.

Run with a JSON file of its settings. What it has done stands in one file, which is
replaced as a whole: what it was about to send, its checkpoints, and what it was told.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import veeam_tasks as vt

PACE = vt.Pace(first=0.2, growth=1.2, longest=0.5)


class Notes:
    """What survives a kill.

    Attributes:
        sent: Of each path whether its task is known; False: it may have been started.
        watches: The checkpoint of each watch, with the paths that each task ID came
            from: after a restart of the server it comes again, for another path.
        told: The events that were taken, as the program tells them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.sent: dict[str, bool] = {}
        self.watches: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        if path.exists():
            content = json.loads(path.read_text())
            self.sent, self.watches = content["sent"], content["watches"]
            self.told = content["told"]

    def save(self) -> None:
        """Replace the file."""
        fresh = self._path.with_suffix(".tmp")
        content = {"sent": self.sent, "watches": self.watches, "told": self.told}
        with fresh.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


async def work(settings: dict[str, Any]) -> None:
    """Start what was not sent yet; follow everything to its end."""
    notes = Notes(Path(settings["notes"]))
    token = settings["token"]
    door: Any = (
        vt.connect(settings["url"], username=settings["user"], password=settings["pw"])
        if token is None
        else vt.adopt(settings["url"], token)
    )
    async with door as em:
        watches = [em.resume(one["checkpoint"], pace=PACE) for one in notes.watches]
        watches.append(em.watch(follow=True, pace=PACE))
        notes.watches.append({"checkpoint": watches[-1].checkpoint(), "paths": {}})
        added = asyncio.Event()
        way = send(em, watches[-1], notes, settings["paths"], added)
        sending = asyncio.create_task(way)
        while not sending.done() or any(watch.report.unfinished for watch in watches):
            # What is sent comes into a watch that may have ended.
            added.clear()
            await read(watches, notes)
            if not sending.done():
                await added.wait()
        await read(watches, notes)
        await sending
    print("all told")


async def send(
    em: vt.SessionManager,
    watch: vt.Watch,
    notes: Notes,
    paths: list[str],
    added: asyncio.Event,
) -> None:
    """Send each action once: what was begun before is never sent again."""
    asyncio.current_task().add_done_callback(lambda _: added.set())  # type: ignore[union-attr] # in one
    for path in paths:
        if path in notes.sent:
            continue
        notes.sent[path] = False
        notes.save()
        try:
            task = await em.submit(path, follow=True)
        except (vt.SubmitUncertainError, vt.StatusError, vt.MalformedReplyError):
            continue
        except vt.TransportError:
            await asyncio.sleep(0.2)
            continue
        notes.sent[path] = True
        watch.add(task)
        own = notes.watches[-1]
        own["paths"].setdefault(task.task_id, []).append(path)
        own["checkpoint"] = watch.checkpoint()
        notes.save()
        added.set()


async def read(watches: list[vt.Watch], notes: Notes) -> None:
    """Take events, and note each with the checkpoint that counts it."""
    async for watch, event in vt.merge(watches):
        number, session = watches.index(watch), event.session
        own = notes.watches[number]
        # What had the ID before is told to its end first, maybe when it is taken anew.
        ended = sum(
            one["is_final"]
            for one in notes.told
            if (one["watch"], one["task_id"]) == (number, event.task_id)
        )
        notes.told.append(
            {
                "path": own["paths"][event.task_id][ended],
                "watch": number,
                "task_id": event.task_id,
                "sequence": event.sequence,
                "is_final": event.is_final,
                "lost": event.state is vt.TaskState.LOST,
                "succeeded": event.succeeded,
                "session": None if session is None else session.session_id,
                "error": None if event.error is None else str(event.error),
            }
        )
        own["checkpoint"] = watch.checkpoint()
        notes.save()


if __name__ == "__main__":
    asyncio.run(work(json.loads(Path(sys.argv[1]).read_text())))
