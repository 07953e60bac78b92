"""What others see of us: secrets hidden, control characters as escapes, text short.

Also what each public class shares: the name of the package, and that an owner has no
copy. All of it stands at the bottom, since every error and every `repr` needs it, and
loads nothing: the first call of a running loop waits for it.
"""

import base64
import binascii
import contextlib
import functools
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NoReturn, TypeVar, cast

HIDDEN = "[hidden]"
_SHORTEST_SECRET = 4
_KEPT = 64
_EXCERPT = 120
_ROUNDS = 4

_COROUTINE = 0x80
"""The flag of functions that are written with ``async def``; `inspect` has it too."""

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_PIECES = re.compile("([/?&;,])")
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_URL_SAFE = str.maketrans("-_", "+/")


class Secret:
    """What our frames hold of a secret: error reporters print the locals of each frame.

    No kind of string, since those that shorten long strings take no notice of its
    `repr`. It equals the value that it holds.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def reveal(self) -> Any:
        """Return the value; not to be bound to a name."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return bool(
            self._value == (other._value if isinstance(other, Secret) else other)
        )

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__


def hidden(value: object) -> Secret:
    """Return a value as a secret, which it may be already."""
    return value if isinstance(value, Secret) else Secret(value)


def hidden_or_none(value: object) -> Secret | None:
    """Return a value as a secret, or None for none."""
    return None if value is None else hidden(value)


def unexpected(name: str, known: Iterable[str]) -> str:
    """Return what to say of a keyword that there is none of; the nearest one too."""
    import difflib  # noqa: PLC0415 - half of what this module would cost

    text = f"unexpected keyword argument {quoted(name)}"
    # A name may be known where it does not belong, as the token of `adopt`.
    near = difflib.get_close_matches(name, [one for one in known if one != name], 1)
    return f"{text}; did you mean {near[0]!r}?" if near else text


def names_nearest(function: FunctionT) -> FunctionT:
    """Let who misspells a keyword be told the nearest one: Python does so from 3.13."""
    if sys.version_info >= (3, 13):
        return function
    plain: Any = function
    code = plain.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    def check(options: Iterable[str]) -> None:
        for name in options:
            if name not in known:
                text = f"{plain.__qualname__}() got an {unexpected(name, known)}"
                raise TypeError(text)

    def called(*args: Any, **options: Any) -> Any:
        check(options)
        return plain(*args, **options)

    async def awaited(*args: Any, **options: Any) -> Any:
        check(options)
        return await plain(*args, **options)

    wrapper: Any = awaited if code.co_flags & _COROUTINE else called
    return cast("FunctionT", functools.update_wrapper(wrapper, plain))


class Secrets:
    """The secrets of one manager, to be hidden from whatever people see.

    Secrets of fewer than four characters are not hidden: they stand in any text.
    The oldest are forgotten, so that days of renewals do not fill the memory; one that
    is added again counts as new.
    """

    def __init__(self) -> None:
        self._passing: deque[str] = deque(maxlen=_KEPT)
        self._lasting: list[str] = []
        self._folded: list[str] = []

    def add(self, *secrets: "str | Secret | None") -> None:
        """Hide `secrets` from now on, also in base64, percent or XML encoding."""
        for secret in secrets:
            for form in _forms(hidden(secret)):
                if form in self._passing:
                    self._passing.remove(form)
                self._passing.append(form)
        self._fold()

    def keep(self, secret: "str | Secret | None") -> None:
        """Hide one that is told once only, and never forget it."""
        self._lasting.extend(_forms(hidden(secret)))
        self._fold()

    def hide(self, text: str) -> str:
        """Return `text` with every known secret replaced."""
        if not self.is_in(text):
            return text
        # Not compiled before it is needed: each renewal would leave a pattern of
        # 20 KiB in the cache of `re`, which keeps 512.
        longest_first = sorted(self._known(), key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        return re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)

    def hide_in_path(self, path: str) -> str:
        """Return a path or URL, hidden what holds a secret in whatever encoding.

        What follows ``logonSessions/`` is an ID, whether it is known or not.
        """
        pieces = _PIECES.split(path)
        for at, piece in enumerate(pieces):
            before = _unquoted(pieces[at - 2]).lower() if at > 1 else ""
            is_id = before == "logonsessions" and piece != ""
            key, equals, value = piece.partition("=")
            if any(map(self.is_in, _decodings(value))) and not self.is_in(key):
                pieces[at] = f"{key}{equals}{HIDDEN}"
            elif is_id or any(map(self.is_in, _decodings(piece))):
                pieces[at] = HIDDEN
        # Last, since it may cut out of the middle what only the whole piece tells.
        return self.hide("".join(pieces))

    def is_in(self, text: str) -> bool:
        """Tell whether a known secret stands in `text`; far cheaper than `hide`."""
        # Not lower(), which writes a sigma by what follows it.
        folded = text.casefold()
        for form in self._folded:  # noqa: SIM110 - a generator costs twice as much
            if form in folded:
                return True
        return False

    def _known(self) -> list[str]:
        return [*self._lasting, *self._passing]

    def _fold(self) -> None:
        self._folded = [form.casefold() for form in self._known()]

    def excerpt(self, body: bytes) -> str:
        """Return the first bytes of a body: hidden, visible, quoted, short."""
        # Hidden before it is cut, so that no half of a secret stays.
        begin = body.lstrip()[: 16 * _EXCERPT].decode("utf-8", "replace")
        text = self.hide(begin).strip()
        short = text if len(text) <= _EXCERPT else text[:_EXCERPT] + "..."
        return quoted(visible(short)) if short else ""

    def __repr__(self) -> str:
        return f"<Secrets {len(self._folded)} hidden>"


def _decodings(piece: str) -> Iterator[str]:
    """Yield what a piece of a path may stand for, decoded again and again."""
    for _ in range(_ROUNDS):
        yield piece
        # Without its padding, or with the letters that URLs allow, it is base64 too.
        letters = _NO_BASE64.sub("", piece.translate(_URL_SAFE))
        with contextlib.suppress(binascii.Error):
            whole = letters[: len(letters) - (len(letters) % 4 == 1)]
            padded = whole + "=" * (-len(whole) % 4)
            yield base64.b64decode(padded).decode("latin-1")
        piece = _unquoted(piece)


def _unquoted(text: str) -> str:
    # It loads `ipaddress`, a third of what this module would cost.
    import urllib.parse  # noqa: PLC0415

    return urllib.parse.unquote(text)


def _escaped(text: str) -> str:
    # Not by `xml.sax.saxutils`, which loads urllib.request and http.client.
    for char, entity in (("&", "amp"), (">", "gt"), ("<", "lt"), ('"', "quot")):
        text = text.replace(char, f"&{entity};")
    return text


def _forms(secret: Secret) -> set[str]:
    text = secret.reveal() or ""
    if len(text) < _SHORTEST_SECRET:
        return set()
    import urllib.parse  # noqa: PLC0415 - see `_unquoted`

    forms = {text, _escaped(text)}
    # A header may hold bytes that are no text, which aiohttp gives as lone surrogates.
    forms.add(urllib.parse.quote(text, safe="", errors="surrogatepass"))
    forms.add(base64.b64encode(text.encode(errors="surrogatepass")).decode("ascii"))
    try:
        # A token is often the session ID in base64.
        plain = base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return forms
    if len(plain) >= _SHORTEST_SECRET and plain.isprintable():
        forms.add(plain)
    return forms


# `str.isprintable` and `repr` are no help: they take the spaces and joiners of other
# scripts for control characters, as U+202F in the name of each screenshot of macOS.
#
# Control characters (Cc), lone surrogates (Cs), separators of lines and paragraphs
# (Zl, Zp), the marks, embeddings, overrides and isolates that turn the direction of
# what follows, and the deprecated ones beside them (U+206A to U+206F).
_CONTROLS = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]"
)


def has_controls(text: str) -> bool:
    """Return whether a character of `text` is none that people would write."""
    return _CONTROLS.search(text) is not None


def visible(text: str) -> str:
    """Return `text` with every control character written as an escape."""
    return _CONTROLS.sub(_escape, text)


def quoted(value: object) -> str:
    """Return what `repr` does, but with the characters of all scripts as they are."""
    if not isinstance(value, str):
        return visible(repr(value))
    mark = '"' if "'" in value and '"' not in value else "'"
    text = value.replace("\\", "\\\\")
    if mark == "'":
        text = text.replace("'", "\\'")
    return f"{mark}{visible(text)}{mark}"


def counted(number: int, one: str, more: str | None = None) -> str:
    """Return a number with its noun: ``1 task``, ``2 tasks``."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class NotCopyable:
    """Cannot be copied or pickled, and says so in words.

    A copy of an owner shares what it owns: the end of either would end the other.
    """

    _what: ClassVar[str]
    _instead: ClassVar[str] = "share the one there is, or make another"

    def __reduce__(self) -> NoReturn:
        # All of `copy` and `pickle` come here.
        text = f"{self._what} and cannot be copied or pickled: {self._instead}"
        raise TypeError(text)


def of_the_package(*public: Callable[..., Any]) -> None:
    """Let what is public say ``veeam_tasks.X`` in tracebacks, help and pickles.

    Where one is written is ours to change; a pickle outlives that.
    """
    for one in public:
        one.__module__ = "veeam_tasks"
