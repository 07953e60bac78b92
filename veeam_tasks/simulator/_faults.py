"""Faults by rule: which requests, how often, and what goes wrong."""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from random import Random
from typing import Final, Literal

import attrs


class FaultKind(StrEnum):
    """What may go wrong. Marked (-): by default the request is not carried out.

    The connection:

    * ``reset`` (-): a TCP reset instead of a reply
    * ``reset_in_headers``, ``reset_after_headers``: a TCP reset in, after the headers
    * ``drop`` (-): the connection is closed in good order, without a reply
    * ``stall`` (-): no reply, for ever; ``delay``: the reply comes `seconds` later, so
      that one asked for afterwards overtakes it
    * ``garbage`` (-): random bytes instead of HTTP
    * ``cut_close``: no Content-Length, and TCP ends in the middle of the body; under
      TLS without the notice that would prove the end

    The body:

    * ``cut_body``: half of it, then the connection is closed
    * ``endless_body``: it never ends; ``slow_drip``: a byte every `seconds`
    * ``wrong_length``: Content-Length is wrong by `amount` (below 0: too short, so that
      the rest stands where the next reply should)
    * ``wrong_charset``: Content-Type says `charset`, the bytes are UTF-8
    * ``wrong_type``: Content-Type says `content_type`, HTML unless given
    * ``gzip_bomb``, ``brotli_bomb``: expands to `amount` bytes; ``entity_bomb``,
      ``deep_body``, ``wide_body``: nested entities, elements, many attributes
    * ``html`` (-), ``empty``, ``garbage_body``: 200 with a page, nothing, random bytes
    * ``byte_order_mark``, ``blanks``: that comes before the document
    * ``chunked_nonsense``: chunks whose sizes are no numbers

    The answer:

    * ``status`` (-): `status` with `body`, `message` and `retry_after`
    * ``unauthorized`` (-), ``forbidden`` (-): 401, 403 with the server's words
    * ``redirect`` (-): `status` (302) to `location`
    * ``echo_secrets`` (-): 500 whose message repeats every secret of the request
    * ``no_token``: the reply to a logon lacks its token

    The tasks:

    * ``backwards``: the state before the present one
    * ``duplicate``, ``shuffle``: collections hold every task twice, in random order
    * ``other_task``: another task than the one asked for
    * ``vanish``: the task is unknown in this reply; the collection is empty
    """

    RESET = "reset"
    RESET_IN_HEADERS = "reset_in_headers"
    RESET_AFTER_HEADERS = "reset_after_headers"
    DROP = "drop"
    STALL = "stall"
    DELAY = "delay"
    GARBAGE = "garbage"
    CUT_CLOSE = "cut_close"
    CUT_BODY = "cut_body"
    ENDLESS_BODY = "endless_body"
    SLOW_DRIP = "slow_drip"
    WRONG_LENGTH = "wrong_length"
    WRONG_CHARSET = "wrong_charset"
    WRONG_TYPE = "wrong_type"
    GZIP_BOMB = "gzip_bomb"
    BROTLI_BOMB = "brotli_bomb"
    ENTITY_BOMB = "entity_bomb"
    DEEP_BODY = "deep_body"
    WIDE_BODY = "wide_body"
    HTML = "html"
    EMPTY = "empty"
    GARBAGE_BODY = "garbage_body"
    BYTE_ORDER_MARK = "byte_order_mark"
    BLANKS = "blanks"
    CHUNKED_NONSENSE = "chunked_nonsense"
    STATUS = "status"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    REDIRECT = "redirect"
    ECHO_SECRETS = "echo_secrets"
    NO_TOKEN = "no_token"  # noqa: S105 - the name of a fault
    BACKWARDS = "backwards"
    DUPLICATE = "duplicate"
    SHUFFLE = "shuffle"
    OTHER_TASK = "other_task"
    VANISH = "vanish"


_INSTEAD: Final = frozenset(
    {
        FaultKind.RESET,
        FaultKind.DROP,
        FaultKind.STALL,
        FaultKind.GARBAGE,
        FaultKind.HTML,
        FaultKind.STATUS,
        FaultKind.UNAUTHORIZED,
        FaultKind.FORBIDDEN,
        FaultKind.REDIRECT,
        FaultKind.ECHO_SECRETS,
    }
)


FaultKindName = Literal[
    "reset",
    "reset_in_headers",
    "reset_after_headers",
    "drop",
    "stall",
    "delay",
    "garbage",
    "cut_close",
    "cut_body",
    "endless_body",
    "slow_drip",
    "wrong_length",
    "wrong_charset",
    "wrong_type",
    "gzip_bomb",
    "brotli_bomb",
    "entity_bomb",
    "deep_body",
    "wide_body",
    "html",
    "empty",
    "garbage_body",
    "byte_order_mark",
    "blanks",
    "chunked_nonsense",
    "status",
    "unauthorized",
    "forbidden",
    "redirect",
    "echo_secrets",
    "no_token",
    "backwards",
    "duplicate",
    "shuffle",
    "other_task",
    "vanish",
]
"""The kinds as they may be written: what a type checker knows of `Fault`."""


def _kinds(
    value: FaultKindName | FaultKind | Sequence[FaultKindName | FaultKind],
) -> tuple[FaultKind, ...]:
    several = (value,) if isinstance(value, str) else tuple(value)
    known = {kind.value for kind in FaultKind}
    for kind in several:
        if kind not in known:
            problem = f"{kind!r} is no kind of fault; known: {', '.join(sorted(known))}"
            raise ValueError(problem)
    if not several:
        problem = "a fault needs at least one kind"
        raise ValueError(problem)
    return tuple(FaultKind(kind) for kind in several)


def _pattern(value: "str | re.Pattern[str] | None") -> re.Pattern[str] | None:
    return re.compile(value) if isinstance(value, str) else value


def _text_of_seconds(value: str | int | None) -> str | None:
    return str(value) if isinstance(value, int) else value


# What is wrong would be found when it is played, inside of the server.
_A_TEXT = attrs.validators.instance_of(str)
_A_NUMBER = attrs.validators.instance_of(int)
_SECONDS = attrs.validators.instance_of((int, float))
_TEXT_OR_NONE = attrs.validators.optional(_A_TEXT)
_NUMBER_OR_NONE = attrs.validators.optional(_A_NUMBER)


@attrs.define
class Fault:
    """A rule: what goes wrong with which requests. The first that fires counts.

    A request matches by `method` and `path`. Of the matching ones, the first `after`
    pass; then every `every`-th, or a `share` of them at random, is spoiled, until it
    happened `times` times. Without any of these, all are.

    Attributes:
        kinds: One kind, or several of which one is drawn each time.
        method: Only this HTTP method.
        path: Only requests whose path with query holds this pattern.
        share: The share to spoil, 0 to 1.
        every: Spoil every n-th.
        times: At most that often.
        after: Let that many pass first.
        seed: For `share` and kinds that are drawn.
        carried_out: Whether the request is carried out all the same; None: by kind.
        status: For ``status`` and ``redirect``.
        message: The server's words, for ``status``.
        body: What ``status`` comes with.
        retry_after: For ``status``: seconds, or the text of the header Retry-After.
        location: Where ``redirect`` leads to.
        seconds: For ``delay`` and ``slow_drip``; the loop's seconds.
        amount: Bytes: the size of a bomb, the error of ``wrong_length``; 0: by kind.
        charset: For ``wrong_charset``.
        content_type: For ``wrong_type``.
        matched: How many requests matched so far.
        played: How many of them were spoiled.
    """

    kinds: tuple[FaultKind, ...] = attrs.field(converter=_kinds)
    method: str | None = attrs.field(
        default=None, kw_only=True, validator=_TEXT_OR_NONE
    )
    path: re.Pattern[str] | None = attrs.field(
        default=None, converter=_pattern, kw_only=True
    )
    share: float | None = attrs.field(default=None, kw_only=True)
    every: int | None = attrs.field(
        default=None, kw_only=True, validator=_NUMBER_OR_NONE
    )
    times: int | None = attrs.field(
        default=None, kw_only=True, validator=_NUMBER_OR_NONE
    )
    after: int = attrs.field(default=0, kw_only=True, validator=_A_NUMBER)
    seed: int | None = attrs.field(default=None, kw_only=True)
    carried_out: bool | None = attrs.field(default=None, kw_only=True)
    status: int | None = attrs.field(
        default=None, kw_only=True, validator=_NUMBER_OR_NONE
    )
    message: str | None = attrs.field(
        default=None, kw_only=True, validator=_TEXT_OR_NONE
    )
    body: Literal["error", "html", "empty"] = attrs.field(
        default="error",
        kw_only=True,
        validator=attrs.validators.in_(("error", "html", "empty")),
    )
    retry_after: str | None = attrs.field(
        default=None,
        kw_only=True,
        converter=_text_of_seconds,
        validator=_TEXT_OR_NONE,
    )
    location: str = attrs.field(
        default="http://127.0.0.1:9/elsewhere", kw_only=True, validator=_A_TEXT
    )
    seconds: float = attrs.field(default=1.0, kw_only=True, validator=_SECONDS)
    amount: int = attrs.field(default=0, kw_only=True, validator=_A_NUMBER)
    charset: str = attrs.field(default="utf-16", kw_only=True, validator=_A_TEXT)
    content_type: str = attrs.field(
        default="text/html", kw_only=True, validator=_A_TEXT
    )
    matched: int = attrs.field(default=0, init=False)
    played: int = attrs.field(default=0, init=False)
    _random: Random = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311 - faults, no secrets
        if self.share is not None and not 0 <= self.share <= 1:
            problem = f"share is a number from 0 to 1, not {self.share!r}"
            raise ValueError(problem)
        if self.share is not None and self.every is not None:
            problem = "share and every exclude each other"
            raise ValueError(problem)
        if self.every is not None and self.every < 1:
            problem = f"every is 1 or more, not {self.every!r}"
            raise ValueError(problem)

    def draw(self, method: str, target: str) -> FaultKind | None:
        """Count a request, and return what goes wrong with it, or None."""
        if self.method is not None and self.method.upper() != method:
            return None
        if self.path is not None and self.path.search(target) is None:
            return None
        self.matched += 1
        if not self._fires(self.matched - self.after):
            return None
        self.played += 1
        return (
            self.kinds[0] if len(self.kinds) == 1 else self._random.choice(self.kinds)
        )

    def carries_out(self, kind: FaultKind) -> bool:
        """Tell whether the request is carried out."""
        return kind not in _INSTEAD if self.carried_out is None else self.carried_out

    def noise(self, count: int) -> bytes:
        """Return random bytes, the same ones for the same seed."""
        return self._random.randbytes(count)

    def _fires(self, number: int) -> bool:
        if number < 1 or (self.times is not None and self.played >= self.times):
            return False
        if self.every is not None:
            return number % self.every == 0
        return self.share is None or self._random.random() < self.share


class Faults:
    """The rules in force, in the order in which they were added."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put a rule in force; return it, to look at what it did."""
        self._rules.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Take a rule out of force.

        Raises:
            ValueError: It is not in force.
        """
        kept = [rule for rule in self._rules if rule is not fault]
        if len(kept) == len(self._rules):
            problem = f"not in force: {fault!r}"
            raise ValueError(problem)
        self._rules = kept

    def clear(self) -> None:
        """Take all rules out of force."""
        self._rules = []

    def draw(self, method: str, target: str) -> tuple[Fault, FaultKind] | None:
        """Return the rule that fires for a request and what goes wrong, or None."""
        for rule in self._rules:
            kind = rule.draw(method, target)
            if kind is not None:
                return rule, kind
        return None

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._rules))

    def __len__(self) -> int:
        return len(self._rules)

    def __repr__(self) -> str:
        played = sum(rule.played for rule in self._rules)
        return f"<Faults {len(self._rules)} rules, played {played} times>"
