"""A collection cut into slices, portion by portion, and put together again."""

from veeam_tasks._protocol import slices as _slices
from veeam_tasks._protocol.limits import DocumentError
from veeam_tasks._protocol.messages import Reply


def cut_whole(given_reply: Reply, *, portion: int = 1 << 16) -> dict[str, bytes] | None:
    """Return all slices by ID; None at a surprise."""
    slices: dict[str, bytes] = {}
    try:
        for part in _slices.split(given_reply, portion=portion):
            assert slices.keys().isdisjoint(part)
            slices |= part
    except DocumentError:
        return None
    return slices
