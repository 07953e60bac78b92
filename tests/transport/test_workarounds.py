"""Bodies of replies: what is left of a connection's end when nobody looks at it."""

import asyncio
import gc

import pytest

from veeam_tasks._transport.workarounds import _retrieve


@pytest.mark.parametrize("how", ["cancelled", "failed", "closed"])
async def test_the_end_of_a_connection_is_nobodys_complaint(how: str) -> None:
    """Asyncio complains of an exception that nobody looked at; here somebody did."""
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    closed: asyncio.Future[None] = loop.create_future()
    closed.add_done_callback(_retrieve)
    if how == "cancelled":
        closed.cancel()
    elif how == "failed":
        closed.set_exception(ConnectionResetError())
    else:
        closed.set_result(None)
    for _ in range(3):
        await asyncio.sleep(0)
    del closed
    gc.collect()
    assert complaints == []
