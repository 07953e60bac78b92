"""The event loops that tests run on: asyncio's own, uvloop's, or with eager tasks."""

import asyncio
import importlib.util
import os
import sys
import warnings
import zlib
from collections.abc import Callable

KINDS = ("asyncio", "uvloop", "eager")
"""What the environment variable ``VEEAM_TASKS_LOOP`` may say."""

_SHARE = 8
_HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
_HAS_EAGER = sys.version_info >= (3, 12)

if _HAS_UVLOOP:
    from uvloop import Loop as Uvloop
else:
    Uvloop = asyncio.SelectorEventLoop


class LoopKind:
    """Which loop is made now, wherever one is asked for.

    It is made by an event loop policy, since the programs within tests call
    ``asyncio.run``, and so does the thread of the simulated server.
    """

    def __init__(self) -> None:
        self.name = KINDS[0]

    def set(self, name: str) -> None:
        """Let loops be of a kind from now on."""
        self.name = name
        with warnings.catch_warnings():
            # Policies are deprecated since 3.14, and nothing else reaches those.
            warnings.simplefilter("ignore", DeprecationWarning)
            policy = None if name == KINDS[0] else _policy()
            asyncio.set_event_loop_policy(policy)


LOOP_KIND = LoopKind()


def _policy() -> asyncio.AbstractEventLoopPolicy:
    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return real_loop()

    return Policy()


def kind_for(test: str) -> str:
    """Return on which loop a test runs.

    Unless the environment says it for all of them, one in eight runs on uvloop and one
    on asyncio with eager tasks; always the same ones, chosen by the name of the test.
    """
    asked = os.environ.get("VEEAM_TASKS_LOOP", "")
    if asked:
        if asked not in KINDS:
            text = f"VEEAM_TASKS_LOOP is {asked!r}; it may be one of {', '.join(KINDS)}"
            raise ValueError(text)
        if asked == "eager" and not _HAS_EAGER:
            text = "VEEAM_TASKS_LOOP is 'eager', which needs Python 3.12"
            raise ValueError(text)
        return asked
    kind = {1: "uvloop", 2: "eager"}.get(zlib.crc32(test.encode()) % _SHARE, "asyncio")
    is_there = {"uvloop": _HAS_UVLOOP, "eager": _HAS_EAGER}.get(kind, True)
    return kind if is_there else "asyncio"


def of_asyncio(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes such a loop, for tests that need asyncio's own.

    Its tasks are eager where they are in the whole run.
    """

    def made() -> asyncio.AbstractEventLoop:
        loop = make()
        if LOOP_KIND.name == "eager" and sys.version_info >= (3, 12):
            loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return made


def real_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of the kind that is chosen."""
    return (
        Uvloop()
        if LOOP_KIND.name == "uvloop"
        else of_asyncio(asyncio.SelectorEventLoop)()
    )
