"""A backend for tests of many thousand polls: virtual time, and no debug mode."""

from support.loops import virtual_loop

QUICK_BACKEND: tuple[str, dict[str, object]] = (
    "asyncio",
    {"loop_factory": virtual_loop},
)
