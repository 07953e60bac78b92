"""What there is one of and no second, since a copy would share its end; pure."""

from typing import ClassVar, NoReturn


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
