"""The headers and the reason phrase that every reply of a version has."""

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from multidict import CIMultiDict

from veeam_tasks.simulator._exchange import Answer
from veeam_tasks.simulator._flavor import Flavor

_NO_CONTENT: Final = 204


class Dresser:
    """Gives an answer what every reply of a version has."""

    def __init__(self, flavor: Flavor) -> None:
        self._flavor = flavor

    def headers(self, answer: Answer) -> CIMultiDict[str]:
        """Return all headers of a reply, in order, spelled as the version does."""
        return CIMultiDict(self._pairs(answer, len(answer.body)))

    def reason(self, answer: Answer) -> str:
        """Return the reason phrase."""
        if answer.reason is not None:
            return answer.reason
        found = self._flavor.reasons.get(answer.status)
        return found if found is not None else HTTPStatus(answer.status).phrase

    def head(
        self, answer: Answer, *, length: int | None = None, has_length: bool = True
    ) -> bytes:
        """Return status line and headers as bytes, with another length if given."""
        measured = len(answer.body) if length is None else length
        pairs = self._pairs(answer, measured if has_length else None)
        lines = [f"HTTP/1.1 {answer.status} {self.reason(answer)}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _pairs(self, answer: Answer, length: int | None) -> list[tuple[str, str]]:
        lower = self._flavor.lower_case_headers
        pairs = [("Cache-Control", "private")]
        if answer.content_type is not None:
            pairs.append(("Content-Type", answer.content_type))
        if answer.status != _NO_CONTENT and length is not None:
            pairs.append(("Content-Length", str(length)))
        pairs += [("Server", self._flavor.server), *answer.headers]
        pairs.append(("Date", formatdate(usegmt=True)))
        return [(name.lower() if lower else name, value) for name, value in pairs]
