"""What error reporters print of our frames: their locals."""

from collections.abc import Iterator
from pathlib import Path

import veeam_tasks

OURS = Path(veeam_tasks.__file__).parent


def locals_of(error: BaseException) -> Iterator[str]:
    """Give each local of our frames in a traceback, as reporters print it."""
    at = error.__traceback__
    while at is not None:
        path = Path(at.tb_frame.f_code.co_filename)
        if path.is_relative_to(OURS) and "simulator" not in path.parts:
            for name, value in at.tb_frame.f_locals.items():
                yield f"{path.name}:{at.tb_lineno} {name} = {value!r}"
        at = at.tb_next
    for other in (error.__cause__, error.__context__):
        if other is not None:
            yield from locals_of(other)
