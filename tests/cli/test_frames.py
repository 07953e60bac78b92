"""What error reporters print of the frames of the shell: no local shows a secret."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import click
import pytest
from support.frames import locals_of

from veeam_tasks.cli._password import PasswordSource
from veeam_tasks.cli._server import Server

SECRET = "s3cret-word"
PROXY = f"http://me:{SECRET}@127.0.0.1:9"
READ = "import sys; print(open(sys.argv[1]).read())"


def prepare(**source: str) -> PasswordSource:
    """Have a password asked for."""
    password = PasswordSource(**source)  # type: ignore[arg-type] # texts
    password.prepare(url="https://em", username="u")
    return password


def written(folder: Path) -> str:
    """Return the path of a file with two lines."""
    (folder / "word").write_text(f"{SECRET}\nmore\n", encoding="utf-8")
    return str(folder / "word")


def of_a_file(folder: Path) -> None:
    """Have a file with two lines."""
    prepare(file=written(folder))


def of_a_command(folder: Path) -> None:
    """Have a command that prints two lines."""
    prepare(command=shlex.join([sys.executable, "-c", READ, written(folder)]))


def of_a_command_again(folder: Path) -> None:
    """Have a command that prints two lines when it is run anew."""
    words = (sys.executable, "-c", READ, written(folder))
    anyio.run(PasswordSource(command="x")._ask_command, words)


def of_a_wrong_option(_: Path) -> None:
    """Have a proxy with a password, and another option that is wrong."""
    Server(
        url="https://em",
        username="u",
        password=PasswordSource(variable=SECRET),
        token=None,
        session_id=None,
        options={"proxy": PROXY, "request_timeout": -1},
        sources={},
    ).logon()


CASES = of_a_file, of_a_command, of_a_command_again, of_a_wrong_option


@pytest.mark.parametrize("fail", CASES)
def test_no_local_shows_a_secret_that_is_refused(
    fail: Callable[[Path], None], tmp_path: Path
) -> None:
    """Neither a password that is none, nor that of a proxy beside a wrong option."""
    with pytest.raises(click.UsageError) as caught:
        fail(tmp_path)
    shown = list(locals_of(caught.value))
    assert shown
    assert [text for text in shown if SECRET in text] == []
