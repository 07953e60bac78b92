"""Where requests go: base URL, task IDs, resource paths, all checked; pure.

Nothing that a caller or a server wrote gets into a URL unchecked, and the host of a
link is never followed: it is the server's own idea of itself.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import unquote

from yarl import URL

from veeam_tasks._errors import ArgumentError
from veeam_tasks._model import TASK_ID, Link, Task
from veeam_tasks._redaction import has_controls, quoted, visible

Hide = Callable[[str], str]

_PORTS = {"https": 9398, "http": 9399}
_SCHEME_PORTS = (443, 80)
_API = "api"
_LONGEST_SHOWN = 80
_LIKE_THIS = "write https://em.example:9398"
_ROUNDS = 3

Place = tuple[str, int, str]
"""Host, port and the path before ``tasks/`` of an Href, as far as it says them."""
# Around what was pasted; the spaces of other scripts may belong to a name.
_BLANKS = " \t\r\n"

_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)")
# What a resolver may take for an address: 1.2.3 is 1.2.0.3 to it.
_NUMBER_LAST = re.compile(r"(?:[^:]*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?", re.ASCII)
_TASK_HREF = re.compile(
    r"(?:(?i:https?)://[^\s/?#\\]+/|/)?(?:[^\s?#\\:]*/)?tasks/"
    rf"({TASK_ID.pattern})(?:\?[^\s#]*)?",
    re.ASCII,
)
_RAW_IN_PATH = re.compile(rb"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9%._~!$&'()*+,;=:@/-]")
_RAW_IN_QUERY = re.compile(rb"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9%._~!$&'()*+,;=:@/?-]")


def base_url(url: str, *, insecure: bool) -> URL:
    """Return the root of the REST API: what was given, ending in ``/api/``.

    Port 9398 (9399 for http) is added where none is given. The ports, and that the
    API lives under ``/api``, are facts of the ``logging_on`` reference page.

    Args:
        url: As ``https://em.example:9398``; with or without ``/api`` and what may
            follow that in a pasted one, or the path prefix of a reverse proxy.
        insecure: Whether ``http://`` to a host that is not loopback is allowed.

    Raises:
        TypeError: It is not a string.
        ValueError: It is no such URL; user information in it is not repeated.
    """
    url = _text(url, "url must be a string")
    shown = shown_url(url)
    if has_controls(url) or re.search(r"[\s\\]", url):
        problem = "has a blank, a backslash or a control character in it"
        raise _bad_url(shown=shown, problem=problem)
    origin = _ORIGIN.match(url)
    if "@" in (origin[2] if origin else re.split("[/?#]", url, maxsplit=1)[0]):
        raise _bad_url(
            shown="the URL",
            problem="has user information in it",
            advice="write it without, and pass username= and password=",
        )
    if origin is None:
        guess = url if "@" not in url and url[:1].isalnum() else "em.example:9398"
        advice = f"write https://{guess.partition('?')[0]}"
        raise _bad_url(shown=shown, problem="has no scheme", advice=advice)
    scheme = origin[1].lower()
    if scheme not in _PORTS:
        raise _bad_url(shown=shown, problem="is no https:// URL", advice=_LIKE_THIS)
    parsed = _parsed(_without_query(url, shown), shown)
    if scheme == "http" and not insecure and not _is_loopback(parsed.host or ""):
        raise _bad_url(
            shown=shown,
            problem="would send the password in the clear",
            advice="write https://, or pass insecure=True",
        )
    return _rooted(parsed.with_port(parsed.explicit_port or _PORTS[scheme]))


def _without_query(url: str, shown: str) -> str:
    """Return what precedes the query, which only a URL of the API itself may have."""
    plain = re.split("[?#]", url, maxsplit=1)[0]
    if plain != url and _API not in plain.lower().split("/")[3:]:
        raise _bad_url(
            shown=shown,
            problem="must have neither query nor fragment",
            advice="leave out what follows",
        )
    return plain


def _rooted(url: URL) -> URL:
    """Return a URL whose path ends in ``/api/``: what follows the last one is cut."""
    segments = [segment for segment in url.raw_path.split("/") if segment]
    ends = [at for at, segment in enumerate(segments) if segment.lower() == _API]
    root = [*segments[: ends[-1] if ends else None], _API]
    return url.with_path(f"/{'/'.join(root)}/", encoded=True)


def task_id_of(value: str | Task, hide: Hide = str) -> str:
    """Return the task ID that `value` is or names.

    Args:
        value: A task ID, a `Task`, or an Href of one: a URL or a path ending in
            ``/tasks/task-7``. Whose it is, see `_session/origins.py`.
        hide: Hides the secrets of a text that an error shows.

    Raises:
        TypeError: It is neither a string nor a `Task`.
        ValueError: It names no task.
    """
    text = _text(
        value.task_id if isinstance(value, Task) else value,
        "a task is named by its ID, a Task or the Href of one",
    )
    if TASK_ID.fullmatch(text):
        return text
    href = _TASK_HREF.fullmatch(text)
    if href is not None:
        return href[1]
    shown = shown_url(text, hide)
    raise ArgumentError(
        parameter="task",
        problem="names no task: pass an ID like 'task-7', a Task, or the Href of one,"
        " which ends in /tasks/task-7",
        shown=shown,
        subject=shown,
    )


def place_of(href: str) -> Place | None:
    """Return where the API is that an Href leads into; None if it does not say so.

    Without a port the one of the service is meant, or of the proxy before it: 0. The
    two ports of an Enterprise Manager, with and without TLS, are one service.
    """
    plain = href.strip(_BLANKS).partition("?")[0]
    if _ORIGIN.match(plain) is None:
        return None
    try:
        named = URL(plain)
        host, port = named.raw_host, named.explicit_port
    except ValueError:
        return None
    if not host:
        return None
    root, has_api, _ = f"{named.raw_path}/".casefold().rpartition(f"/{_API}/")
    if port is None or port in _PORTS.values():
        port = 0
    return host.rstrip(".").casefold(), port, f"{root}/" if has_api else ""


def is_same_place(one: Place, other: Place) -> bool:
    """Tell whether two Hrefs may lead into the same API, as far as they say it."""
    roots = one[2], other[2]
    is_same_root = roots[0] == roots[1] or "" in roots
    is_same_port = one[1] == other[1] or {one[1], other[1]} <= {0, *_SCHEME_PORTS}
    return one[0] == other[0] and is_same_port and is_same_root


def resource_path(value: str | Link, base: URL, hide: Hide = str) -> str:
    """Return the path of a resource below ``/api/``, with its query, encoded.

    What is percent-encoded already stays as it is.

    Args:
        value: ``jobs/ID?action=start``, ``/jobs/ID``, ``/api/jobs/ID``, a whole URL
            or a `Link`, of which only path and query are used.
        base: What `base_url` returned.
        hide: Hides the secrets of a text that an error shows.

    Raises:
        TypeError: It is neither a string nor a `Link`.
        ValueError: It names no resource below ``/api/``.
    """
    text = _text(
        value.href if isinstance(value, Link) else value,
        "a resource is named by its path, its URL or a Link",
    )
    shown = shown_url(text, hide)
    _check_text(text, shown)
    path, has_query, query = _relative(text, base, shown).partition("?")
    _check_segments(path, shown)
    encoded = _encoded(path, _RAW_IN_PATH)
    return f"{encoded}?{_encoded(query, _RAW_IN_QUERY)}" if has_query else encoded


def check_same_server(href: str, base: URL, hide: Hide = str) -> None:
    """Check that a URL does not name another server; a path names none.

    Without a port it may mean ours or that of the scheme, as a proxy has it.

    Args:
        href: What `resource_path` took.
        base: What `base_url` returned.
        hide: Hides the secrets of a text that an error shows.

    Raises:
        ValueError: Its host or its port is another.
    """
    if _ORIGIN.match(href.strip(_BLANKS)) is None:
        return
    try:
        named = URL(href.strip(_BLANKS))
        host, port = named.raw_host, named.explicit_port
    except ValueError:
        host, port = None, None
    ports = {port} if port is not None else {*_PORTS.values(), *_SCHEME_PORTS}
    if host == base.raw_host and base.port in ports:
        return
    shown = shown_url(href, hide)
    raise ArgumentError(
        parameter="path",
        problem=f"that is another server than {base.origin()}",
        shown=shown,
        subject=f"{shown}:",
        advice="write the path alone, or pass a Link of the server, whose path alone is"
        " used",
    )


def _bad_url(
    *, shown: str, problem: str, advice: str = "", subject: str = ""
) -> ArgumentError:
    return ArgumentError(
        parameter="url",
        problem=problem,
        shown=shown,
        advice=advice,
        subject=subject or shown,
    )


def _text(value: object, rule: str) -> str:
    if isinstance(value, str):
        return value
    message = f"{rule}, not {type(value).__name__}"
    raise TypeError(message)


def _check_text(text: str, shown: str) -> None:
    if not text.strip(_BLANKS):
        _refuse(shown, "it is empty")
    if has_controls(text):
        _refuse(shown, "it has a control character in it")
    if "#" in text:
        _refuse(shown, "it has a fragment (#) in it")
    if "\\" in text:
        _refuse(shown, "it has a backslash in it")


def _relative(text: str, base: URL, shown: str) -> str:
    """Return what follows ``/api/`` in `text`, query included, still raw."""
    rest = text.strip(_BLANKS)
    origin = _ORIGIN.match(rest)
    if origin is not None:
        if origin[1].lower() not in _PORTS:
            _refuse(shown, "it is no https:// URL")
        rest = rest[origin.end() :]
    elif rest.startswith("//"):
        _refuse(shown, "it begins with //")
    path, mark, query = rest.partition("?")
    for root in (base.raw_path, base.path, f"/{_API}/"):
        if f"{path}/".startswith(root):
            return f"{path[len(root) :]}{mark}{query}"
    if origin is not None:
        _refuse(shown, f"it is not below {base.path}")
    return f"{path.lstrip('/').removeprefix(f'{_API}/')}{mark}{query}"


def _check_segments(path: str, shown: str) -> None:
    # A proxy may decode once more than the server does.
    for _ in range(_ROUNDS):
        if any(segment in {".", ".."} for segment in re.split(r"[/\\]", path)):
            _refuse(shown, "it has a . or .. in it")
        if has_controls(path):
            _refuse(shown, "it has a control character in it")
        path = unquote(path)


def _encoded(part: str, raw: re.Pattern[bytes]) -> str:
    return raw.sub(lambda match: b"%%%02X" % ord(match[0]), part.encode()).decode()


def _refuse(shown: str, problem: str) -> NoReturn:
    raise ArgumentError(
        parameter="path",
        problem=f"names no resource of this server: {problem}",
        shown=shown,
        subject=shown,
        advice="write a path like 'jobs/ID?action=start', or pass a Link or its href",
    )


def _parsed(url: str, shown: str) -> URL:
    try:
        parsed = URL(url)
        host = parsed.raw_host or ""
        problem = "" if host.encode("idna") else "it names no host"
        if parsed.explicit_port == 0:
            problem = "0 is no port"
        elif _NUMBER_LAST.fullmatch(host) and not _is_ipv4(host):
            problem = "the host looks like an IPv4 address and is none"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise _bad_url(
            shown=shown, problem=problem, advice=_LIKE_THIS, subject=f"{shown}:"
        )
    return parsed


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".") == "localhost"


def shown_url(text: str, hide: Hide = str) -> str:
    """Return `text` for a message: no user information, no query, not too long."""
    # Hidden before it is cut, so that no half of a secret stays.
    plain = hide(text.partition("?")[0])
    if "@" in plain:
        return "the URL"
    if len(plain) > _LONGEST_SHOWN:
        plain = f"{plain[:_LONGEST_SHOWN]}..."
    return quoted(visible(plain))
