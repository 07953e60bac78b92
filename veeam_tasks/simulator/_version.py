"""How the versions of the Enterprise Manager differ on the wire.

Sources: the vendor's page on versions (``em_web_api_versions``), captures of
9.5 Update 4 and 12, and three projects that had to adapt to 13. Two things are
guesses, since nothing public says them: the ``Server`` header of version 13, and that
9.5 Update 4 refuses interface versions that came later.
"""

import re
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote_plus

import attrs

_CAPITALS: Final = re.compile(r"^[A-Z]+(?![a-z])|^[A-Z]")

_ESCAPE: Final = re.compile(r"%[0-9A-F]{2}")

_ODD_REASONS: Final = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "NoContent",
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    415: "UnsupportedMediaType",
    500: "InternalServerError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
}


VersionName = Literal["9.5u4", "12", "13"]


@attrs.frozen(kw_only=True)
class ServerVersion:
    """One version of the server, as far as the wire shows it.

    Attributes:
        name: ``9.5u4``, ``12`` or ``13``.
        supported: Interface versions (``v=``) that may log on, newest last.
        knows_operation_finished: Whether that state exists (from 10 on).
        camel_case: JSON keys in camelCase (13) instead of PascalCase.
        prints_nulls: JSON prints absent members as null (from 12 on).
        json_anywhere: JSON anywhere in Accept makes it read the request body as JSON.
        lower_case_headers: Names of reply headers are in lower case (13).
        server: The ``Server`` header.
        reasons: Reason phrases, where they are odd.
        time_digits: The most digits of a fraction that times have; zeros at its end are
            dropped, so that their number varies within one reply.
        fraction_in_names: Whether the time in a job session's name has that fraction
            (13).
        names_machines: Whether task sessions have a ``VmUid`` (from 10 on).
        upper_case_hex: Whether paging links write ``%3E`` (13) instead of ``%3e``.
    """

    name: str
    supported: tuple[str, ...]
    knows_operation_finished: bool = True
    camel_case: bool = False
    prints_nulls: bool = True
    json_anywhere: bool = False
    lower_case_headers: bool = False
    server: str = "Microsoft-HTTPAPI/2.0"
    reasons: dict[int, str] = attrs.field(factory=dict)
    time_digits: int = 3
    fraction_in_names: bool = False
    names_machines: bool = True
    upper_case_hex: bool = False

    def key(self, name: str) -> str:
        """Return a JSON key as this version spells it."""
        if not self.camel_case:
            return name
        # As .NET does it: a run of capitals falls together, so that UID becomes uid.
        return _CAPITALS.sub(lambda found: found[0].lower(), name)

    def time(self, at: datetime) -> str:
        """Return a time as this version prints it: UTC with ``Z``."""
        return f"{at:%Y-%m-%dT%H:%M:%S}{self._fraction(at)}Z"

    def time_in_name(self, at: datetime) -> str:
        """Return a time as it stands in the name of a job session."""
        fraction = self._fraction(at) if self.fraction_in_names else ""
        return f"{at:%Y-%m-%d %H:%M:%S}{fraction}"

    def quoted(self, text: str) -> str:
        """Return a value of the query as paging links write it."""
        encoded = quote_plus(text)
        if self.upper_case_hex:
            return encoded
        return _ESCAPE.sub(lambda found: found[0].lower(), encoded)

    def _fraction(self, at: datetime) -> str:
        digits = f"{at.microsecond:06d}"[: self.time_digits].rstrip("0")
        return f".{digits}" if digits else ""

    def accepts(self, interface_version: str) -> bool:
        """Tell whether ``v=`` may log on; without regard to case."""
        asked = interface_version.lower()
        return asked in {"", "latest"} or asked in self.supported


VERSIONS: Final = {
    version.name: version
    for version in (
        ServerVersion(
            name="9.5u4",
            time_digits=0,
            names_machines=False,
            supported=("v1_1", "v1_2", "v1_3", "v1_4"),
            knows_operation_finished=False,
            prints_nulls=False,
            json_anywhere=True,
            reasons=_ODD_REASONS,
        ),
        ServerVersion(
            name="12",
            supported=("v1_5", "v1_6", "v1_7"),
            reasons=_ODD_REASONS,
        ),
        ServerVersion(
            name="13",
            supported=("v1_5", "v1_6", "v1_7"),
            camel_case=True,
            time_digits=6,
            fraction_in_names=True,
            upper_case_hex=True,
            lower_case_headers=True,
            server="Kestrel",
        ),
    )
}


def version_named(name: str) -> ServerVersion:
    """Return a version by its name.

    Raises:
        ValueError: There is none of that name.
        TypeError: It is no name, but a number, say.
    """
    if not isinstance(name, str):
        problem = f"version must be a string, as '13', not {name!r}"
        raise TypeError(problem)
    try:
        return VERSIONS[name.lower()]
    except KeyError:
        known = ", ".join(map(repr, VERSIONS))
        problem = f"version {name!r} is not simulated; known are {known}"
    raise ValueError(problem)
