"""Outcomes: a mapping of many that is cheap to change and to keep as it was; pure.

A report is a snapshot. If each were a copy, a report beside each event of ten thousand
tasks would cost a hundred million copies. So this is a tree of small tuples: a change
makes new ones from one leaf to the root, and every older snapshot keeps its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, groupby
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")

_BITS = 5
_WIDTH = 1 << _BITS

KINDS = ("succeeded", "failed", "lost", "unfinished")

_Entry = tuple[str, ValueT, str]


class _Node(Generic[ValueT]):
    """A leaf of entries, or a node of nodes; None where something was taken out."""

    __slots__ = ("_ids", "children", "counts", "is_leaf")

    def __init__(
        self,
        children: "list[_Entry[ValueT] | None] | list[_Node[ValueT]]",
        *,
        is_leaf: bool,
    ) -> None:
        self.children = children
        self.is_leaf = is_leaf
        self._ids: dict[str, tuple[str, ...]] = {}
        self.counts = dict.fromkeys(KINDS, 0)
        for child in children:
            if isinstance(child, _Node):
                for kind, count in child.counts.items():
                    self.counts[kind] += count
            elif child is not None:
                self.counts[child[2]] += 1

    def entries(self) -> "Iterator[_Entry[ValueT]]":
        for child in self.children:
            if isinstance(child, _Node):
                yield from child.entries()
            elif child is not None:
                yield child

    def ids(self, kind: str) -> tuple[str, ...]:
        """Return the IDs of one kind; kept, so that only what changed is made anew."""
        if not self.counts[kind]:
            return ()
        ids = self._ids.get(kind)
        if ids is None:
            ids = self._ids[kind] = tuple(
                chain.from_iterable(
                    child.ids(kind) if isinstance(child, _Node) else child[:1]
                    for child in self.children
                    if isinstance(child, _Node)
                    or (child is not None and child[2] == kind)
                )
            )
        return ids


_Changes = list[tuple[int, _Entry[ValueT] | None]]


def _changed(
    node: _Node[ValueT] | None, shift: int, changes: _Changes[ValueT]
) -> _Node[ValueT]:
    """Return a node with some entries changed, given in the order of their places."""
    if shift == 0:
        leaf: list[_Entry[ValueT] | None] = [] if node is None else [*node.children]
        for place, entry in changes:
            at = place % _WIDTH
            leaf.extend([None] * (at + 1 - len(leaf)))
            leaf[at] = entry
        return _Node(leaf, is_leaf=True)
    nodes: list[_Node[ValueT]] = [] if node is None else [*node.children]
    for at, group in groupby(changes, lambda change: (change[0] >> shift) % _WIDTH):
        below = nodes[at] if at < len(nodes) else None
        fresh = _changed(below, shift - _BITS, list(group))
        # Places are given out in order, so there is no gap.
        nodes[at : at + 1] = [fresh]
    return _Node(nodes, is_leaf=False)


class Outcomes(Mapping[str, ValueT]):
    """From task ID to its latest event, in the order watched; never changes.

    Args:
        kind_of: Tells of what kind a value is, one of `KINDS`.
    """

    __slots__ = ("_is_newest", "_kind_of", "_places", "_root", "_shift", "_size")

    def __init__(self, kind_of: Callable[[ValueT], str]) -> None:
        self._kind_of = kind_of
        self._root: _Node[ValueT] = _Node([], is_leaf=True)
        self._shift = 0
        self._size = 0
        # Shared with the snapshots before, and only ever added to.
        self._places: dict[str, int] = {}
        self._is_newest = True

    def updated(
        self, removed: Iterable[str], latest: Mapping[str, ValueT]
    ) -> "Outcomes[ValueT]":
        """Return these outcomes without what was removed and with the latest values."""
        new = Outcomes(self._kind_of)
        places, size = self._places, self._size
        changes: _Changes[ValueT] = [
            (places[task_id], None) for task_id in removed if task_id in self
        ]
        gone = {place for place, _ in changes}
        for task_id, value in latest.items():
            place = places.get(task_id)
            is_known = place is not None and place not in gone and task_id in self
            if place is None or not is_known:
                is_shared = places is self._places
                if is_shared and (place is not None or not self._is_newest):
                    # An older snapshot has it elsewhere, or a newer one has others.
                    places = dict(places)
                elif is_shared:
                    self._is_newest = False
                place = places[task_id] = size
                size += 1
            changes.append((place, (task_id, value, self._kind_of(value))))
        changes.sort(key=lambda change: change[0])
        new._places, new._size, new._shift = places, size, self._shift
        root: _Node[ValueT] | None = self._root if self._size else None
        while size > 1 << (new._shift + _BITS):
            new._shift += _BITS
            root = None if root is None else _Node([root], is_leaf=False)
        if changes:
            new._root = _changed(root, new._shift, changes)
        else:
            new._root = self._root
        if size > 2 * len(new) + _WIDTH:
            # So that an endless watch does not keep the places of all that has gone.
            fresh = Outcomes(self._kind_of)
            return fresh.updated((), dict(new.items()))
        return new

    def ids(self, kind: str) -> tuple[str, ...]:
        """Return the IDs of one kind, in the order watched."""
        return self._root.ids(kind)

    def count(self, kind: str) -> int:
        """Return how many there are of one kind."""
        return self._root.counts[kind]

    def __getitem__(self, key: str) -> ValueT:
        place = self._places.get(key)
        if place is None or place >= self._size:
            raise KeyError(key)
        node = self._root
        for shift in range(self._shift, 0, -_BITS):
            below = node.children[(place >> shift) % _WIDTH]
            assert isinstance(below, _Node)
            node = below
        entry = node.children[place % _WIDTH]
        if entry is None or isinstance(entry, _Node) or entry[0] != key:
            raise KeyError(key)
        return entry[1]

    def __iter__(self) -> Iterator[str]:
        return (entry[0] for entry in self._root.entries())

    def __len__(self) -> int:
        return sum(self._root.counts.values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (dict(self),)
