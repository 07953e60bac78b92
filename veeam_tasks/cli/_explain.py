"""Errors of the package in an administrator's words, with the next step.

They are written from the typed fields of the errors, never out of their text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import click

import veeam_tasks as vt
from veeam_tasks.cli._messages import counted, span, visible

SHARE: Final = (
    "start and watch it with one command ('submit'), or let commands share a logon"
    " session (see 'veeam-tasks logon --help')"
)
"""What to do about a task that this logon session does not know."""

WORTH: Final = "A task belongs to the logon session that started it"
"""What a task ID is worth, as the README says it, too."""

_ANEW: Final = (
    "the logon session of VEEAM_EM_TOKEN has ended: open another one with"
    ' eval "$(veeam-tasks logon)", or unset VEEAM_EM_TOKEN'
)
_OPTIONS: Final = {
    "first": "--first-pause",
    "longest": "--longest-pause",
    "token": "VEEAM_EM_TOKEN",
    "session_id": "VEEAM_EM_SESSION_ID",
    "password": "the password",
    "path": "PATH",
    "url": "URL",
}
_UNAUTHORIZED: Final = 401
_SERVER_ERROR: Final = 500


class Named(Protocol):
    """Where a command goes, and how its settings were named: see `Server`."""

    @property
    def is_adopted(self) -> bool:
        """Whether the logon session is somebody else's."""

    @property
    def settings(self) -> Mapping[str, object]:
        """What was set, by the names of the package's arguments."""

    def named(self, parameter: str) -> str | None:
        """Return the option, variable or entry that set a parameter, if any did."""

    @property
    def password_problem(self) -> str:
        """Why the password could not be had again, or nothing."""


def explain(  # noqa: PLR0911 - one sentence for each class
    error: vt.VeeamTasksError, server: Named | None = None
) -> str:
    """Return what an error means and what to do, in one sentence or two.

    Args:
        error: What ended a command, or a task.
        server: Of which server; that of the command by default.
    """
    if server is None:
        server = _current()
    match error:
        case vt.SubmitUncertainError():
            return f"{_why(error, server)}. {_maybe_done(server)}"
        case vt.CertificateError():
            return _certificate(error, server)
        case vt.TransportError():
            return _why(error, server)
        case vt.LogonError():
            return _logon(error, server)
        case vt.StatusError():
            return _status(error, server)
        case vt.MalformedReplyError():
            return _nonsense(error, server)
        case vt.TaskLostError():
            return f"{error.task_id} is lost: {why_lost(error)}"
        case vt.WatchTimeoutError():
            return late(error)
    return str(error)


def why_lost(error: vt.VeeamTasksError) -> str:
    """Return why a task is lost, without what is the same for every such task."""
    if isinstance(error, vt.SessionLostError):
        return visible(error.reason)
    return (
        _why_task_lost(error) if isinstance(error, vt.TaskLostError) else explain(error)
    )


def _why_task_lost(error: vt.TaskLostError) -> str:
    last, said = error.last_error, ""
    if isinstance(last, vt.StatusError) and last.message:
        said = f": {visible(last.message)}"
    if error.advice:
        return "this logon session does not know it"
    if error.renewed_at is not None:
        return (
            f"the logon session was renewed at {error.renewed_at:%H:%M:%S} UTC, and the"
            " new one does not know it; the operation may well go on"
        )
    if isinstance(last, vt.TaskNotFoundError):
        return f"the server does not know it{said}"
    if isinstance(last, vt.ForbiddenError):
        return f"this account may not read it{said}"
    return visible(error.reason)


def outage(error: vt.VeeamTasksError | None) -> str:
    """Return in a few words why a server cannot be used now."""
    match error:
        case vt.TransportError():
            place = _place(error.request)
            words = {
                "refused": f"connection refused ({place})",
                "unknown_host": f"no such host ({place})",
                "no_route": f"no route to it ({place})",
                "disconnected": f"connection lost ({place})",
                "proxy": "the proxy does not let us through",
                "password": "the password could not be had",
            }
            return words.get(error.kind, visible(error.detail))
        case vt.StatusError():
            said = f", {error.message!r}" if error.message else ""
            return f"it answers {error.status}{said}"
        case vt.MalformedReplyError():
            return f"it answers nonsense: {error.problem}"
    return "" if error is None else str(error)


def wrong_argument(error: vt.ArgumentError, server: Named | None = None) -> str:
    """Return what is wrong with an argument, by the name that the user gave it."""
    if server is None:
        server = _current()
    name = name_of(error.parameter, server)
    if error.others:
        names = [name, *(name_of(other, server) for other in error.others)]
        return f"{', '.join(names)}: pass one of them at most; they contradict"
    if error.parameter == "ca_file" and error.shown:
        return _ca_file(name, error)
    # A URL with a password in it is not shown, but only called what it is.
    is_shown = bool(error.shown) and error.shown != "the URL"
    shown = f"{name} {error.shown}" if is_shown else name
    return f"{shown}{_colon(error)} {error.problem}{_correction(error, server)}"


def name_of(parameter: str, server: Named | None) -> str:
    """Return how the user named a setting: an option, a variable, an entry."""
    named = None if server is None else server.named(parameter)
    return named or _OPTIONS.get(parameter) or f"--{parameter.replace('_', '-')}"


def _current() -> Named | None:
    context = click.get_current_context(silent=True)
    found: Named | None = None if context is None else context.obj
    return found


def _takes_jobs() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and "job" in context.params


def _colon(error: vt.ArgumentError) -> str:
    # Some problems go on from the value as a sentence: 'x' has no scheme.
    goes_on = error.parameter in {"url", "path"} and not str(error).startswith(
        f"{error.shown}: "
    )
    return ":" if error.shown and not goes_on else ""


def _correction(error: vt.ArgumentError, server: Named | None) -> str:
    """Return what to write instead, in words of the shell."""
    url = "" if server is None else str(server.settings.get("url") or "")
    if error.parameter == "url" and "@" in url.partition("?")[0]:
        return "; write it without, the name goes to --username"
    if error.parameter == "url" and "port" in str(error).lower():
        return "; the port is a number up to 65535, 9398 as a rule"
    if error.parameter == "url" and url.startswith("http://"):
        return (
            "; write https://, or pass --insecure if nobody else can listen on the way"
        )
    if error.parameter == "path":
        by_name = ", or name a job with --job" if _takes_jobs() else ""
        return f"; write what stands below /api/, as 'jobs/ID?action=start'{by_name}"
    return "" if "=" in error.advice or not error.advice else f"; {error.advice}"


def _ca_file(name: str, error: vt.ArgumentError) -> str:
    path = Path(error.shown)
    try:
        begin = path.read_bytes()[:2048]
    except OSError as problem:
        return f"{name} {error.shown} cannot be read: {problem.strerror}"
    if begin[:1] == b"\x30" and b"-----BEGIN" not in begin:
        return (
            f"{name} {error.shown} is a certificate in DER form; convert it to PEM:"
            f" openssl x509 -inform der -in {error.shown} -out {path.stem}.pem"
        )
    return (
        f"{name} {error.shown} holds no certificate in PEM form, which begins with"
        " -----BEGIN CERTIFICATE-----"
    )


def _place(request: str) -> str:
    """Return host and port of a request as people write them."""
    found = urlsplit(request.rpartition(" ")[2])
    return found.netloc or request.rpartition(" ")[2]


def _maybe_done(server: Named | None) -> str:
    look = (
        "see with 'veeam-tasks list' which tasks there are now"
        if server is not None and server.is_adopted
        else "see with 'veeam-tasks jobs' or in the server's console what runs now"
    )
    return f"It may have been carried out: {look}, before you send it again"


def _why(  # noqa: C901, PLR0911 - one sentence for each kind
    error: vt.TransportError, server: Named | None
) -> str:
    place = visible(_place(error.request))
    host = place.rpartition(":")[0] or place
    url = name_of("url", server)
    match error.kind:
        case "refused":
            return (
                f"{place} refuses the connection: nothing listens there. Is the"
                f" Enterprise Manager's REST service running, and {url} right? (Its"
                " port is 9398)"
            )
        case "unknown_host":
            return f"there is no host {host}: check {url}, and the DNS of this machine"
        case "no_route":
            return f"there is no way to {place}: check the network, a VPN or a firewall"
        case "no_tls":
            return (
                f"{place} does not speak TLS: is it another port (9398 is usual), or is"
                f" http:// meant in {url}?"
            )
        case "tls":
            return f"{place}: the TLS handshake failed: {visible(error.detail)}"
        case "proxy":
            proxy = name_of("proxy", server)
            return (
                f"the proxy did not let us through to {place}:"
                f" {visible(error.detail)}; check {proxy}"
            )
        case "password":
            problem = "" if server is None else server.password_problem
            return f"the password could not be had: {problem or error.detail}"
        case "patience":
            patience = name_of("patience", server)
            return f"the server was away for longer than {patience} allows"
        case "timeout":
            timeout = name_of("request_timeout", server)
            return (
                f"{error.request}: {visible(error.detail)}; if the server is slow,"
                f" raise {timeout}"
            )
    hint = ""
    if error.kind == "disconnected" and " http://" in error.request:
        hint = f"; if it speaks TLS, write https:// in {url}"
    return f"{error.request}: {visible(error.detail)}{hint}"


def _certificate(error: vt.CertificateError, server: Named | None) -> str:
    place = visible(_place(error.request))
    pin = name_of("fingerprint", server)
    is_pinned = server is not None and bool(server.settings.get("fingerprint"))
    about = [f"subject {error.subject}"] if error.subject else []
    about += [f"expires {error.expires}"] if error.expires else []
    shown = f" ({', '.join(about)})" if about else ""
    if is_pinned:
        new = f"; it has SHA-256 {error.fingerprint}" if error.fingerprint else ""
        return (
            f"{place} shows another certificate{shown} than the one of {pin}: someone"
            " may be in between, so nothing was sent. If the certificate was replaced,"
            f" compare with the server's own console, and pin the new one{new}"
        )
    advice = _how_to_trust(error, server)
    if error.fingerprint:
        advice = (
            "Compare its fingerprint with the server's own console; if it is the same,"
            f" {advice}, or pin it: --fingerprint {error.fingerprint}"
        )
    else:
        advice = f"See it with 'veeam-tasks fingerprint', or {advice}"
    return (
        f"the certificate of {place} is not trusted: {visible(error.detail)}{shown}."
        f" {advice}"
    )


def _how_to_trust(error: vt.CertificateError, server: Named | None) -> str:
    """Return what else than a pin makes this certificate one that is trusted."""
    why = error.detail.lower()
    if "mismatch" in why:
        return f"name the server in {name_of('url', server)} as its certificate does"
    if "expired" in why or "not yet valid" in why:
        return "let the certificate be renewed"
    file = name_of("ca_file", server)
    if server is not None and server.settings.get("ca_file"):
        return f"let {file} hold the CA that issued it, which it does not"
    return f"name its CA with {file}"


def _logon(error: vt.LogonError, server: Named | None) -> str:
    if server is not None and server.is_adopted:
        return _ANEW
    said = f": {error.message!r}" if error.message else ""
    if not error.request.startswith("POST"):
        return (
            "the server accepted the logon and then refused its own token, so the"
            " logon is not tried again; restart the Enterprise Manager's REST service"
            " if that goes on"
        )
    account = name_of("username", server)
    return (
        f"{error.request}: the server refused the logon with {error.status}{said}."
        f" Check {account} and {_password_of(server)}; it is not tried again, so that"
        " the account is not locked"
    )


def _password_of(server: Named | None) -> str:
    """Return where the refused password came from, if a setting says."""
    for name in ("password_file", "password_command", "password_keyring"):
        named = None if server is None else server.named(name)
        if named:
            return f"the password of {named}"
    return "the password"


def _status(error: vt.StatusError, server: Named | None) -> str:
    said = f": {error.message!r}" if error.message else ""
    text = f"{error.request}: the server answered {error.status}{said}"
    if isinstance(error, vt.TaskNotFoundError):
        return f"{text}. {WORTH}: {SHARE}"
    if isinstance(error, vt.ForbiddenError):
        if error.status == _UNAUTHORIZED:
            return f"{text}. It may not be read by this account"
        return f"{text}. This account may not do that; it needs another role"
    if error.may_be_carried_out:
        return f"{text}. {_maybe_done(server)}"
    if isinstance(error, vt.ServerBusyError):
        return f"{text}. It is overloaded or in maintenance; that passes"
    return f"{text}. {error.advice}" if error.advice else text


def _nonsense(error: vt.MalformedReplyError, server: Named | None) -> str:
    text = f"{error.request}: {error.problem}"
    if error.may_be_carried_out:
        return f"{text}. {_maybe_done(server)}"
    begins = f"; it begins {error.excerpt}" if error.excerpt else ""
    url = name_of("url", server)
    return (
        f"{text}{begins}. Is {url} an Enterprise Manager's REST service (port 9398),"
        " and no proxy in between?"
    )


def late(error: vt.WatchTimeoutError, *, is_simulated: bool = False) -> str:
    """Return what was not over when the time was.

    Args:
        error: What ended a watch.
        is_simulated: Whether the server ends with the watch.
    """
    left, outcomes = error.report.unfinished, error.report.outcomes
    if error.trouble is not None and not outcomes:
        return (
            f"time ran out after {span(error.seconds)}, before a logon: {error.trouble}"
        )
    total, parts = counted(len(outcomes), "task"), []
    latest = [outcomes[one] for one in left]
    searched = sum(
        one is not None and one.stage is vt.RunStage.SEARCHING for one in latest
    )
    if len(left) > searched or not left:
        parts.append(f"{len(left) - searched} of {total} unfinished")
    if searched:
        parts.append(f"the job session of {searched} of {total} not found yet")
    text = f"time ran out after {span(error.seconds)} with {' and '.join(parts)}"
    if is_simulated or len(left) == searched:
        return text
    if searched:
        return f"{text}; what is unfinished goes on at the server"
    return f"{text}; {'it goes' if len(left) == 1 else 'they go'} on at the server"
