"""A backend for tests of many thousand polls: virtual time, and no debug mode."""

import asyncio

import looptime

QUICK_BACKEND: tuple[str, dict[str, object]] = (
    "asyncio",
    {"loop_factory": looptime.make_event_loop_class(asyncio.SelectorEventLoop)},
)
