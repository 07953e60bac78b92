"""What public classes share: the package they are of, and that some have no copy."""

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


def of_the_package(*classes: type) -> None:
    """Let public classes say ``veeam_tasks.X`` in tracebacks, help and pickles.

    Where one is written is ours to change; a pickle outlives that.
    """
    for one in classes:
        one.__module__ = "veeam_tasks"
