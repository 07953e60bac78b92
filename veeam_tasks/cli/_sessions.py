"""The commands about trust and logon sessions: `logon`, `logout`, `fingerprint`."""

import shlex
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._ends import Exit, drive, told
from veeam_tasks.cli._lines import write
from veeam_tasks.cli._options import Server, checking, server_options, talk_options
from veeam_tasks.cli._shows import Talk
from veeam_tasks.cli._words import say

if TYPE_CHECKING:
    from veeam_tasks._trust import Certificate

_WHOLE_COLUMNS = 110
_powershell = click.option(
    "--powershell", is_flag=True, help="Print lines for PowerShell."
)


@click.command(short_help="Open a logon session for later commands.")
@_powershell
@server_options
@talk_options
def logon(*, powershell: bool, server: Server, talk: Talk) -> int:
    """Log on, leave the logon session open, print what lets later commands use it.

    The printed lines are secrets: they are what the password is, until 'logout' or
    15 idle minutes end the logon session. Later commands never end it by themselves.

    \b
    Examples:
        eval "$(veeam-tasks logon)"
        veeam-tasks submit 'jobs/b04c217b-0538-4650-bec4-19deff4ea1ac?action=start'
        veeam-tasks list
        eval "$(veeam-tasks logout)"
    \b
    In PowerShell:
        veeam-tasks logon --powershell | Out-String | Invoke-Expression
    """  # noqa: D301 - click's mark is a real backspace
    own = attrs.evolve(server, token=None, session_id=None)
    connecting = own.connecting(keep_alive=False)

    async def work() -> Exit:
        async with connecting as em:
            settings = _settings(own, em)
            if talk.as_json:
                write(settings)
            else:
                sys.stdout.write(_assignments(settings, powershell=powershell))
                sys.stdout.flush()
            await em.aclose(log_out=False)
        return Exit.OK

    status = drive(work)
    if status == Exit.OK and sys.stdout.isatty() and not talk.quiet:
        say('To take such lines over at once: eval "$(veeam-tasks logon)"')
    return status


@click.command(short_help="End the logon session that 'logon' opened.")
@_powershell
@server_options
@talk_options
def logout(*, powershell: bool, server: Server, talk: Talk) -> int:
    """End the logon session of VEEAM_EM_TOKEN; print lines that forget it.

    \b
    Examples:
        eval "$(veeam-tasks logout)"
    """  # noqa: D301 - click's mark is a real backspace
    token, url = server.token, server.required_url()
    if token is None:
        text = "no logon session to end: VEEAM_EM_TOKEN is not set"
        raise click.UsageError(text)

    async def work() -> Exit:
        from veeam_tasks._doors import log_out  # noqa: PLC0415 - loads aiohttp

        status = Exit.OK
        with checking():
            try:
                await log_out(url, token, session_id=server.session_id, **server.rest)
            except vt.LogonError as error:
                # It has ended already: there is nothing left but to forget it.
                status = told(error)
        form = "Remove-Item Env:{} -ErrorAction Ignore" if powershell else "unset {}"
        for name in ("VEEAM_EM_TOKEN", "VEEAM_EM_SESSION_ID"):
            click.echo(form.format(name))
        if not talk.quiet and not status:
            say("The logon session has ended.")
        return status

    return drive(work)


@click.command(short_help="Print a server's certificate and how to pin it.")
@click.argument("url", envvar="VEEAM_EM_URL", required=False)
@talk_options
def fingerprint(*, url: str | None, talk: Talk) -> int:
    """Print what a server's certificate says, and the option that pins it.

    Nothing but a TLS handshake is sent: no request, no password. Compare the
    fingerprint with what the server's own console shows before you trust it.

    \b
    Examples:
        veeam-tasks fingerprint https://em.example:9398
    """  # noqa: D301 - click's mark is a real backspace
    if url is None:
        text = "no server: name its URL, or set VEEAM_EM_URL"
        raise click.UsageError(text)
    host, port = _place(url)

    async def work() -> Exit:
        from veeam_tasks._trust import inspect_certificate  # noqa: PLC0415 - anyio, ssl

        found = await inspect_certificate(host, port)
        if talk.wants_objects:
            _write_certificate(found)
        else:
            _print_certificate(found)
        return Exit.OK

    return drive(work)


def _settings(server: Server, em: "vt.SessionManager") -> dict[str, str]:
    """Return the variables that let another command use this logon session."""
    ca_file = server.rest.get("ca_file")
    found = {
        "VEEAM_EM_URL": server.required_url(),
        "VEEAM_EM_TOKEN": em.token,
        "VEEAM_EM_SESSION_ID": em.session_id,
        "VEEAM_EM_CA_FILE": None if ca_file is None else str(Path(ca_file).absolute()),
        "VEEAM_EM_FINGERPRINT": server.rest.get("fingerprint"),
    }
    return {name: value for name, value in found.items() if value}


def _assignments(settings: Mapping[str, str], *, powershell: bool) -> str:
    """Return lines that a shell takes over; every value is quoted."""
    lines = []
    for name, value in settings.items():
        if powershell:
            quoted = value.replace("'", "''")
            lines.append(f"$env:{name} = '{quoted}'\n")
        else:
            lines.append(f"export {name}={shlex.quote(value)}\n")
    return "".join(lines)


def _place(url: str) -> tuple[str, int]:
    from veeam_tasks._address import base_url  # noqa: PLC0415 - loads yarl

    with checking():
        base = base_url(url, insecure=True)
    if base.scheme != "https" or base.host is None or base.port is None:
        text = f"{base.origin()} speaks no TLS, so it has no certificate"
        raise click.UsageError(text)
    return base.host, base.port


def _write_certificate(found: "Certificate") -> None:
    write(
        {
            "fingerprint": found.fingerprint,
            "subject": found.subject,
            "issuer": found.issuer,
            "names": list(found.names),
            "not_before": _moment(found.not_before),
            "not_after": _moment(found.not_after),
        }
    )


def _print_certificate(found: "Certificate") -> None:
    from veeam_tasks.cli._tables import print_pairs  # noqa: PLC0415 - rich

    ends = _moment(found.not_after) or "unknown"
    if found.not_after is not None and found.not_after < datetime.now(UTC):
        ends = f"{ends} (expired)"
    print_pairs(
        [
            ("SHA-256", _halved(found.fingerprint)),
            ("subject", found.subject or "unknown"),
            ("issuer", found.issuer or "unknown"),
            ("for", ", ".join(found.names) or "unknown"),
            ("valid from", _moment(found.not_before) or "unknown"),
            ("valid until", ends),
        ]
    )
    click.echo(
        "\nCompare the fingerprint with what the server's own console shows.\n"
        f"If it is the same, pin it:\n\n    --fingerprint {found.fingerprint}\n\n"
        f"or, for all commands:\n\n"
        f"    export VEEAM_EM_FINGERPRINT={found.fingerprint}"
    )


def _halved(fingerprint: str) -> str:
    """Return it in two lines where one would be broken just anywhere."""
    if shutil.get_terminal_size().columns >= _WHOLE_COLUMNS:
        return fingerprint
    middle = len(fingerprint) // 2 + 1
    return f"{fingerprint[:middle]}\n{fingerprint[middle:]}"


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
