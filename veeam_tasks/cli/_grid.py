"""Tables of tasks that fit the terminal: what matters most gives way last."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

_GAP = 2
_WIDE = 120
_LONGEST, _LONGEST_WIDE = 18, 38
# In this order; a column that would get less is left out. TASK and STATE stay.
_LEAST: Final = {"MESSAGE": 10, "OPERATION": 6, "AGE": 4}
_LEAST_WHOLE: Final = {**_LEAST, "MESSAGE": 20}


def make_table(
    names: Sequence[str],
    rows: Sequence[tuple[Text, ...]],
    width: int,
    *,
    is_whole: bool = False,
) -> Table:
    """Return a table of tasks that fits the width.

    Args:
        names: The heads of the columns, of which some may be left out.
        rows: A cell for each of the names.
        width: Columns of the terminal.
        is_whole: Whether long messages go on below instead of being cut.
    """
    rooms = _rooms(_natural(names, rows, width), width, is_whole=is_whole)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", pad_edge=False)
    for name, room in rooms.items():
        folds = is_whole and name == "MESSAGE"
        table.add_column(
            name,
            width=room,
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
            justify="right" if name == "AGE" else "left",
        )
    for row in rows:
        shown = zip(names, row, strict=True)
        table.add_row(*(cell for name, cell in shown if name in rooms))
    return table


def has_messages(table: Table) -> bool:
    """Tell whether there was room for the messages."""
    return any(column.header == "MESSAGE" for column in table.columns)


def _natural(
    names: Sequence[str], rows: Sequence[tuple[Text, ...]], width: int
) -> dict[str, int]:
    """Return how wide the columns would be with room for all."""
    longest = _LONGEST_WIDE if width >= _WIDE else _LONGEST
    natural = {}
    for at, name in enumerate(names):
        room = max([len(name), *(row[at].cell_len for row in rows)])
        natural[name] = room if name == "MESSAGE" else min(room, longest)
    return natural


def _rooms(natural: dict[str, int], width: int, *, is_whole: bool) -> dict[str, int]:
    """Return how wide the columns are, without those that had to go."""
    rooms = dict(natural)
    for name, least in (_LEAST_WHOLE if is_whole else _LEAST).items():
        over = sum(rooms.values()) + _GAP * (len(rooms) - 1) - width
        if over <= 0:
            break
        if name not in rooms:
            continue
        rooms[name] -= over
        if rooms[name] < least:
            del rooms[name]
    return rooms
