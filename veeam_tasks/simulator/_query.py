"""The query service: filter, sort, page (pages ``query_comparison`` and following)."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from veeam_tasks.simulator._messages import Refusal
from veeam_tasks.simulator._tree import Scalar

Fields = Mapping[str, Scalar | None]
Test = Callable[[Fields], bool]

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<operator>==|!=|>=|<=|>|<)
      | (?P<mark>[;,()])
      | ""(?P<doubled>[^"]+)""
      | "(?P<quoted>(?:[^"]|"")*)"
      | (?P<plain>[^;,()"<>=!]+)
    )""",
    re.VERBOSE,
)
# "If a parameter has an array of possible values, they are compared by index."
_ORDERS: Final = {
    "state": (
        "starting",
        "stopping",
        "working",
        "pausing",
        "resuming",
        "stopped",
        "pending",
        "inprogress",
        "completed",
        "running",
        "operationfinished",
        "finished",
    ),
    "result": ("none", "success", "warning", "failed"),
}
_TIMES: Final = frozenset({"creationtime", "endtime", "nextrun"})
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TASK_ID: Final = re.compile(r"task-([0-9]+)", re.IGNORECASE | re.ASCII)
_BAD: Final = 400
# Python converts no text of over 4,300 digits, nor recurses deeper than 1,000 frames.
_MOST_DIGITS: Final = 18
_DEEPEST: Final = 50


@attrs.frozen(kw_only=True)
class Page:
    """One page of a result."""

    number: int
    size: int
    count: int


def parse_filter(text: str, known: Sequence[str]) -> Test:
    """Return the test that a filter describes.

    ``;`` is and, ``,`` is or, and binds closer; parentheses group. Names and values
    count without regard to case; quotes may stand around a value, a quote in it
    doubled; blanks outside of quotes are ignored.

    Args:
        text: The filter.
        known: The parameters of the type; none where any name will do.

    Raises:
        Refusal: 400; the filter cannot be read or names what the type has not.
    """
    if not text.strip():
        return lambda _: True
    parser = _Parser(text, {name.lower(): name for name in known})
    test = parser.either()
    if parser.peek() is not None:
        raise parser.refusal()
    return test


class _Parser:
    def __init__(self, text: str, known: dict[str, str]) -> None:
        self._text = text
        self._known = known
        self._tokens = self._split(text)
        self._next = 0
        self._depth = 0

    def _split(self, text: str) -> list[re.Match[str]]:
        found, position = [], 0
        while position < len(text.rstrip()):
            match = _TOKEN.match(text, position)
            if match is None or match.end() == position:
                raise self.refusal()
            found.append(match)
            position = match.end()
        return found

    def refusal(self) -> Refusal:
        return Refusal(_BAD, f"Cannot parse the filter [{self._text}].")

    def peek(self) -> str | None:
        if self._next >= len(self._tokens):
            return None
        token = self._tokens[self._next]
        return token["mark"] or token["operator"] or ""

    def _take(self, group: str) -> str:
        if self._next >= len(self._tokens):
            raise self.refusal()
        value = self._tokens[self._next][group]
        if value is None:
            raise self.refusal()
        self._next += 1
        return str(value)

    def either(self) -> Test:
        tests = [self._both()]
        while self.peek() == ",":
            self._next += 1
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda f: any(t(f) for t in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self.peek() == ";":
            self._next += 1
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda f: all(t(f) for t in tests)

    def _one(self) -> Test:
        if self.peek() == "(":
            self._next += 1
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self.refusal()
            test = self.either()
            if self.peek() != ")":
                raise self.refusal()
            self._next += 1
            self._depth -= 1
            return test
        asked = self._take("plain").replace(" ", "")
        name = self._known.get(asked.lower())
        operator = self._take("operator")
        value = self._value()
        if name is None and self._known:
            raise Refusal(_BAD, f"Unknown query parameter [{asked}].")
        if name is None:
            return lambda _: False
        return _comparison(name, operator, value)

    def _value(self) -> str:
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            if token["doubled"] is not None:
                self._next += 1
                return f'"{token["doubled"]}"'
            if token["quoted"] is not None:
                self._next += 1
                return str(token["quoted"]).replace('""', '"')
        return self._take("plain").replace(" ", "")


def _comparison(name: str, operator: str, value: str) -> Test:
    compare = _OPERATORS[operator]
    key = name.lower()
    if key in _TIMES and _moment(value) is None:
        raise Refusal(_BAD, f"[{value}] is no time.")
    is_bare = _GUID.fullmatch(value) is not None
    wanted = sort_key(key, value)

    def test(fields: Fields) -> bool:
        found = fields.get(name)
        if found is None:
            return operator == "!="
        if is_bare:
            # Clients in production ask with the GUID alone for what is a whole URN.
            found = str(found).rpartition(":")[2]
        return compare(sort_key(key, found), wanted)

    return test


_Key = tuple[int, float, str]
_OPERATORS: Final[dict[str, Callable[[_Key, _Key], bool]]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
    ">=": lambda left, right: left >= right,
    "<=": lambda left, right: left <= right,
}


def sort_key(name: str, value: Scalar | None) -> _Key:
    """Return what a value is compared by: index, number, or text without case."""
    if value is None:
        return (-1, 0.0, "")
    text = str(value).lower()
    moment = _moment(text) if name.lower() in _TIMES else None
    if moment is not None:
        return (0, moment, "")
    order = _ORDERS.get(name.lower(), ())
    if text in order:
        return (0, float(order.index(text)), "")
    number = _TASK_ID.fullmatch(text)
    if number is not None:
        return (0, float(number[1]), "")
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text)


def _moment(text: str) -> float | None:
    """Return a time as a number; it is UTC, with or without ``Z`` or a fraction."""
    try:
        found = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()


def positive(query: Mapping[str, str], name: str, default: int) -> int:
    """Return a whole number above 0 from the query.

    Raises:
        Refusal: 400; it is something else.
    """
    text = query.get(name.lower())
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    if not is_number or int(text) < 1:
        raise Refusal(_BAD, f"Invalid value [{text}] of the parameter [{name}].")
    return int(text)
