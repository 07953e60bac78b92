"""What every test shares: asyncio as backend, its loop in debug mode."""

import pytest


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run async tests on asyncio in debug mode."""
    return "asyncio", {"debug": True}
