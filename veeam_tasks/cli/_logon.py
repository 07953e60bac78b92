"""The commands about trust and logon sessions: `logon`, `logout`, `fingerprint`."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import attrs
import click

import veeam_tasks as vt
from veeam_tasks.cli._command import Command, option
from veeam_tasks.cli._exits import Exit
from veeam_tasks.cli._json_lines import write
from veeam_tasks.cli._messages import complain, say
from veeam_tasks.cli._options import (
    PROXY,
    output_options,
    server_options,
    token_options,
)
from veeam_tasks.cli._password import Hidden
from veeam_tasks.cli._reporters import OutputMode
from veeam_tasks.cli._runner import run_async, status_of
from veeam_tasks.cli._server import Server, checking

_WHOLE_COLUMNS = 110
Shell = Literal["sh", "powershell", "cmd"]
_FORGET: Final[Mapping[Shell, str]] = {
    "sh": "unset {}",
    "powershell": "Remove-Item Env:{} -ErrorAction Ignore",
    "cmd": "set {}=",
}
_TAKE_OVER: Final[Mapping[Shell, str]] = {
    "sh": 'eval "$(veeam-tasks logon)"',
    "powershell": "veeam-tasks logon --powershell | Out-String | Invoke-Expression",
    "cmd": "for /f \"delims=\" %i in ('veeam-tasks logon --cmd') do @%i",
}


def _shell_options(command: "click.decorators.FC") -> "click.decorators.FC":
    """Give a command the options that choose the shell which takes its lines over."""
    for one in (
        option("--cmd", is_flag=True, help="Print lines for cmd.exe."),
        option("--powershell", is_flag=True, help="Print lines for PowerShell."),
    ):
        command = one(command)
    return command


def _chosen(*, powershell: bool, cmd: bool) -> Shell:
    if powershell and cmd:
        text = "--powershell and --cmd: pass one of them"
        raise click.UsageError(text)
    if powershell:
        return "powershell"
    return "cmd" if cmd else "sh"


@click.command(
    cls=Command,
    short_help="Open a logon session for later commands.",
    examples=(
        'eval "$(veeam-tasks logon)"',
        "veeam-tasks submit --job Daily",
        'eval "$(veeam-tasks logout)"',
        "",
        "veeam-tasks logon --powershell | Out-String | Invoke-Expression",
        "for /f \"delims=\" %i in ('veeam-tasks logon --cmd') do @%i",
    ),
)
@_shell_options
@server_options
@output_options
def logon(*, powershell: bool, cmd: bool, server: Server, output: OutputMode) -> int:
    """Log on, leave the logon session open, print what lets later commands use it.

    The printed lines are as secret as the password, until 'logout' or 15 idle minutes
    end the logon session. Later commands never end it by themselves.
    """
    shell = _chosen(powershell=powershell, cmd=cmd)
    own = attrs.evolve(server, token=None, session_id=None)
    click.get_current_context().obj = own
    logon = own.logon(keep_alive=False)

    async def work() -> Exit:
        async with logon as em:
            if output.as_json:
                write(_settings(own, em))
            else:
                sys.stdout.write(_assignments(_settings(own, em), shell))
                sys.stdout.flush()
            await em.aclose(log_out=False)
        return Exit.OK

    status = run_async(work, on_signal=logon.abort)
    if status == Exit.OK and sys.stdout.isatty() and not output.quiet:
        say(f"To set these variables in this shell at once: {_TAKE_OVER[shell]}")
    return status


@click.command(
    cls=Command,
    short_help="End the logon session that 'logon' opened.",
    examples=('eval "$(veeam-tasks logout)"',),
)
@_shell_options
@token_options
@output_options
def logout(*, powershell: bool, cmd: bool, server: Server, output: OutputMode) -> int:
    """End the logon session of VEEAM_EM_TOKEN; print lines that forget it."""
    shell = _chosen(powershell=powershell, cmd=cmd)
    set_elsewhere = Hidden(os.environ.get("VEEAM_EM_TOKEN") or None)
    adopted = attrs.evolve(server, token=server.token or set_elsewhere.reveal())
    url = server.required_url()
    if adopted.token is None:
        text = "no logon session to end: VEEAM_EM_TOKEN is not set"
        raise click.UsageError(text)
    click.get_current_context().obj = adopted

    async def work() -> Exit:
        status = Exit.OK
        with checking(adopted):
            try:
                await vt.log_out(
                    url,
                    adopted.token or "",
                    session_id=adopted.session_id,
                    **adopted.options,
                )
            except vt.LogonError as error:
                # It has ended already: there is nothing left but to forget it.
                complain("the logon session of VEEAM_EM_TOKEN had ended already")
                status = status_of(error)
        for name in ("VEEAM_EM_TOKEN", "VEEAM_EM_SESSION_ID"):
            click.echo(_FORGET[shell].format(name))
        if not output.quiet and not status:
            say("The logon session has ended.")
        return status

    return run_async(work, logs_out=False)


@click.command(
    cls=Command,
    short_help="Print a server's certificate and how to pin it.",
    examples=("veeam-tasks fingerprint https://em.example:9398",),
)
@click.argument("url", envvar="VEEAM_EM_URL", required=False)
@PROXY
@output_options
def fingerprint(*, url: str | None, proxy: str | None, output: OutputMode) -> int:
    """Print what a server's certificate says, and the option that pins it.

    Nothing but a TLS handshake is sent: no request, no password. Compare the
    fingerprint with what the server's own console shows before you trust it.
    """
    if url is None:
        text = "no server: name its URL, or set VEEAM_EM_URL"
        raise click.UsageError(text)

    async def work() -> Exit:
        with checking():
            found = await vt.inspect_certificate(url, proxy=proxy or None)
        if output.wants_objects:
            _write_certificate(found)
        else:
            _print_certificate(found)
        return Exit.OK

    return run_async(work, logs_out=False)


def _settings(server: Server, em: "vt.SessionManager") -> dict[str, str]:
    """Return the variables that let another command use this logon session."""
    ca_file = server.options.get("ca_file")
    found = {
        "VEEAM_EM_URL": server.required_url(),
        "VEEAM_EM_TOKEN": em.token,
        "VEEAM_EM_SESSION_ID": em.session_id,
        "VEEAM_EM_CA_FILE": None if ca_file is None else str(Path(ca_file).absolute()),
        "VEEAM_EM_FINGERPRINT": server.options.get("fingerprint"),
    }
    return {name: value for name, value in found.items() if value}


def _assignments(settings: Mapping[str, str], shell: Shell) -> str:
    """Return lines that a shell takes over; every value is quoted."""
    lines = []
    for name, value in settings.items():
        if shell == "powershell":
            quoted = value.replace("'", "''")
            lines.append(f"$env:{name} = '{quoted}'\n")
        elif shell == "cmd":
            # Within these quotes cmd.exe takes all but the percent sign as it is.
            lines.append(f'set "{name}={value.replace("%", "%%")}"\n')
        else:
            lines.append(f"export {name}={shlex.quote(value)}\n")
    return "".join(lines)


def _write_certificate(found: "vt.Certificate") -> None:
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


def _print_certificate(found: "vt.Certificate") -> None:
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
