"""What `connect`, `adopt` and `SessionManager` take: defaults and meanings, once.

`settings.py` checks the values. This is apart since it loads nothing: inside of a
running loop, as at the prompt of ``python -m asyncio``, `help` shows what is said here
before the rest is loaded; see `_client/late_connect.py`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar

from veeam_tasks._redaction import Secret, hidden, quoted, unexpected

if TYPE_CHECKING:
    from os import PathLike
    from ssl import SSLContext

    from veeam_tasks._pace import Pace
    from veeam_tasks._telemetry.notices import Notice

Coalesce = Literal["auto", "never", "always"]
"""Whether one request asks for all tasks: when that is cheaper, never, or always."""


class Options(TypedDict, total=False):
    """What `connect`, `adopt` and `SessionManager` take beside URL and account.

    Trust, at most one of the four; without any, the system's CAs:

    * `ssl` (None): an `ssl.SSLContext` of your own; one that verifies nothing warns.
    * `ca_file` (None): PEM file of the CAs to trust instead of the system's.
    * `fingerprint` (None): SHA-256 of the server's own certificate, hex with or without
      colons; replaces the checks of chain, name and expiry.
    * `insecure` (False): True switches verification off (it warns), and allows ``http://``
      to hosts that are not loopback. The other three have no meaning with ``http://``.

    The rest, with defaults:

    * `api_version` ("latest"): the ``v=`` of the logon, or "v1_7" and the like.
    * `accept` ("xml"): or "json", what the server is asked to answer with.
    * `pace` (``Pace()``): how long to pause between two polls of one task.
    * `request_timeout` (30.0): seconds until a request without a reply is given up;
      more than 0.
    * `max_in_flight` (16): how many polls are under way at once; 1 or more. Calls and
      actions have as many slots of their own.
    * `patience` (None): seconds that an outage may last before watches give up, more
      than 0; None: for ever.
    * `keep_alive` (True): ask for the logon session when nothing was sent for five
      minutes, since the server drops it after 15 (``http_authentication`` page).
    * `max_reply_bytes` (None): the longest reply body in bytes, 1 or more; None: 1 MiB
      for one task, 64 MiB for a collection or what `read` asks for.
    * `coalesce` ("auto"): whether one request asks for all tasks: when that is cheaper,
      "never"; or "always", but for one of many that alone has a quicker pace.
    * `proxy` (None): URL of an HTTP proxy, ``http://proxy.example:3128``.
    * `on_notice` (None): a plain function that is told each `Notice` in the event loop;
      what it raises is logged and harms nothing.
    """

    ssl: "SSLContext | None"
    ca_file: "str | PathLike[str] | None"
    fingerprint: str | None
    insecure: bool
    api_version: str
    accept: Literal["xml", "json"]
    pace: "Pace"
    request_timeout: float
    max_in_flight: int
    patience: float | None
    keep_alive: bool
    max_reply_bytes: int | None
    coalesce: Coalesce
    proxy: str | None
    on_notice: "Callable[[Notice], object] | None"


DEFAULTS: Mapping[str, Any] = {
    "ssl": None,
    "ca_file": None,
    "fingerprint": None,
    "insecure": False,
    "api_version": "latest",
    "accept": "xml",
    "pace": None,  # `Pace()`, which cannot be made here
    "request_timeout": 30.0,
    "max_in_flight": 16,
    "patience": None,
    "keep_alive": True,
    "max_reply_bytes": None,
    "coalesce": "auto",
    "proxy": None,
    "on_notice": None,
}
"""The keywords that all of them have."""

_ARGUMENTS = {
    "url": """\
* `url`: ``https://em.example:9398``, with or without ``/api``, port and path.""",
    "username": r"""
* `username`: ``DOMAIN\user`` or ``user@domain``.""",
    "password": """
* `password`: a string, or a callable, plain or async, that returns one and is asked
  anew at each logon.""",
    "token": """
* `token`: the ``X-RestSvcSessionId`` of the logon session.""",
    "session_id": """
* `session_id` (None): its ID, if known: makes keeping it alive cheaper, and `log_out`
  needs it where the token is not the ID in base64, as newer servers have it.""",
}

_TRUST = "'ca_file', 'fingerprint' or 'insecure'"
# What it is called in requests, httpx and aiohttp.
_ELSEWHERE: Final = dict.fromkeys(("verify", "verify_ssl", "check_hostname"), _TRUST)

_WRONG = "A wrong argument is a ValueError or TypeError before anything is sent."


FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class _NotGiven:
    """Stands for an argument that has to be given and was not."""

    def __repr__(self) -> str:
        return "not given"


_NOT_GIVEN: Final = _NotGiven()


def hide_secrets(options: Any) -> Any:
    """Hide in place the proxy, whose URL may hold a password, and what is misspelt.

    Whoever prints the locals of a traceback would show it. Returns the options.
    """
    for name, value in options.items():
        if name not in DEFAULTS or (name == "proxy" and value is not None):
            options[name] = hidden(value)
    return options


def check_names(
    function: str, given: Mapping[str, object], options: Mapping[str, object]
) -> None:
    """Refuse an option that there is none of; then the lack of an argument.

    Args:
        function: Who was called.
        given: What it takes beside options, by name; secrets are hidden.
        options: What else it was given.

    Raises:
        TypeError: It names the nearest keyword, or what is missing.
    """
    missing = [quoted(name) for name, value in given.items() if _is_lacking(value)]
    listed = " and ".join(filter(None, [", ".join(missing[:-1]), *missing[-1:]]))
    for name in sorted(options.keys() - DEFAULTS.keys()):
        known = (*DEFAULTS, *given)
        text = f"{function}() got an {unexpected(name, known)}"
        if name in _ELSEWHERE and text.endswith(quoted(name)):
            text += f"; did you mean {_ELSEWHERE[name]}?"
        if missing and text.endswith(quoted(name)):
            text += f"; missing: {listed}"
        raise TypeError(text)
    if missing:
        noun = "argument" if len(missing) == 1 else "arguments"
        text = f"{function}() missing {len(missing)} required {noun}: {listed}"
        raise TypeError(text)


def _is_lacking(value: object) -> bool:
    return (value.reveal() if isinstance(value, Secret) else value) is _NOT_GIVEN


class _DefaultPace:
    """Stands for the default pace where a signature is shown."""

    def __repr__(self) -> str:
        return "Pace()"


def with_keywords(
    function: FunctionT, *, pace: object = None, hints: Mapping[str, Any] | None = None
) -> FunctionT:
    """Let ``help()`` and completion show each keyword with its default and meaning.

    Type checkers see them by ``Unpack[Options]``; at a prompt that is ``**options``.
    What has to be given gets a default that `check_names` refuses: Python would tell
    what is missing before anyone could name the misspelt keyword. No wrapper does that,
    since its frame would hold the password in each traceback.

    Args:
        function: Takes ``**options``.
        pace: The default pace; None if it is not loaded.
        hints: The types of the options, if they are loaded.
    """
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind != one.VAR_KEYWORD]
    defaults = {**DEFAULTS, "pace": pace or _DefaultPace()}
    shown = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=(hints or {}).get(name, inspect.Parameter.empty),
        )
        for name, default in defaults.items()
    ]
    plain: Any = function
    required = [one for one in own if one.default is one.empty and one.name != "self"]
    by_place = [one for one in required if one.kind is not one.KEYWORD_ONLY]
    plain.__defaults__ = (_NOT_GIVEN,) * len(by_place)
    plain.__kwdefaults__ = (plain.__kwdefaults__ or {}) | {
        one.name: _NOT_GIVEN for one in required if one.kind is one.KEYWORD_ONLY
    }
    plain.__signature__ = signature.replace(parameters=own + shown)
    arguments = "".join(_ARGUMENTS.get(one.name, "") for one in own)
    meanings = (inspect.getdoc(Options) or "").partition("\n\n")[2]
    # What is written out for editors, which run nothing, has it already.
    head = (inspect.getdoc(function) or "").partition(f"\n\n{_WRONG}")[0]
    function.__doc__ = f"{head}\n\n{_WRONG}\n\n{arguments}\n\n{meanings}\n"
    return function
