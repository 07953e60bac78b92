"""The faults that `nox -s mutation` puts into the code."""

import ast
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

pytestmark = pytest.mark.skipif(
    not BENCHMARKS.exists(), reason="the benchmarks come with the sources only"
)

SAMPLE = '''
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

LIMIT: int = 3


@decorated(1)
class Sample:
    """A text with 1 in it."""

    def __repr__(self) -> str:
        return "sample"

    async def é(self, one, other, *, is_last=False):
        assert one > 2
        while one < LIMIT and other:
            self.count += 1
            try:
                await self.send(one, other, last=is_last)
            except (ValueError, TypeError):
                LOG.debug("failed: %s", one)
                break
            except OSError:
                raise
        self.seen = min(one, other)
        if not other:
            return None
        return one - other
'''
EXPECTED = [
    ("LIMIT: int = 3", "LIMIT: int = (3 + 1)"),
    ("LIMIT: int = 3", "LIMIT: int = (3 - 1)"),
    ("is_last=False", "is_last=True"),
    ("while one < LIMIT and other:", "while (not (one < LIMIT and other)):"),
    ("while one < LIMIT and other:", "while ((one < LIMIT) or (other)):"),
    ("one < LIMIT", "(one <= LIMIT)"),
    ("one < LIMIT", "(one >= LIMIT)"),
    ("self.count += 1", "pass"),
    ("self.count += 1", "self.count += (1 + 1)"),
    ("self.count += 1", "self.count += (1 - 1)"),
    ("await self.send(one, other, last=is_last)", "pass"),
    ("self.send(one, other, last=is_last)", "self.send(other, one, last=is_last)"),
    ("except (ValueError, TypeError):", "except (ValueError, ):"),
    ("break", "continue"),
    ("except OSError:", "except ():"),
    ("raise", "pass"),
    ("self.seen = min(one, other)", "pass"),
    ("min(one, other)", "max(one, other)"),
    ("if not other:", "if (other):"),
    ("return one - other", "return None"),
    ("return one - other", "return ((one) + (other))"),
]


@pytest.fixture
def mutations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module, which stands with the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mutations

    return mutations


def test_each_kind_of_fault_is_made_once_and_nothing_else(
    mutations: ModuleType,
) -> None:
    """A piece of code gives these mutants, each of which differs at one place."""
    made = sorted(one.applied(SAMPLE) for one in mutations.Finder("a.py", SAMPLE).all())
    assert made == sorted(SAMPLE.replace(old, new, 1) for old, new in EXPECTED)
    for one in made:
        ast.parse(one)


def test_a_mutant_keeps_its_name_where_the_code_moves(mutations: ModuleType) -> None:
    """Lines that come before it leave a mutant's name as it is, and none is double."""
    moved = f"import os\n\n{SAMPLE}"
    before = [one.name for one in mutations.Finder("a.py", SAMPLE).all()]
    assert before == [one.name for one in mutations.Finder("a.py", moved).all()]
    assert len(set(before)) == len(before) == len(EXPECTED)
