"""Connections of Airflow, read as what `connect` takes."""

from typing import Any

import attrs
import pytest

import veeam_tasks as vt
from veeam_tasks.airflow._connection import Server, read_server


@attrs.define
class Connection:
    """What Airflow gives for a connection."""

    conn_id: str = "em"
    host: str | None = "em.example"
    port: int | None = None
    login: str | None = r"CORP\svc"
    password: str | None = "planted-password"
    extra_dejson: dict[str, Any] = attrs.field(factory=dict)


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("em.example", None, "https://em.example:9398"),
        ("em.example", 443, "https://em.example:443"),
        ("https://em.example", None, "https://em.example:9398"),
        ("https://em.example:9399", 1, "https://em.example:9399"),
        ("http://127.0.0.1", 8000, "http://127.0.0.1:8000"),
        ("https://em.example/prefix", None, "https://em.example:9398/prefix"),
        ("[::1]", None, "https://[::1]:9398"),
    ],
)
def test_the_address_is_a_host_or_a_url(host: str, port: int | None, url: str) -> None:
    """What a URL says counts; https and 9398 otherwise."""
    assert read_server(Connection(host=host, port=port)).url == url


def test_extras_are_the_keywords_of_connect() -> None:
    """Texts too, since a connection that is written as a URI has no others."""
    extra = {
        "fingerprint": "ab:cd",
        "ca_file": "",
        "insecure": "false",
        "patience": "60",
        "max_in_flight": "4",
        "pace_longest": "90",
        "accept": None,
    }
    assert read_server(Connection(extra_dejson=extra)).options == {
        "fingerprint": "ab:cd",
        "insecure": False,
        "patience": 60.0,
        "max_in_flight": 4,
        "pace": vt.Pace(longest=90.0),
    }


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"host": None}, "needs a host"),
        ({"login": ""}, "needs a host, an account"),
        ({"password": None}, "and a password"),
        ({"extra_dejson": {"finger": "ab"}}, "unknown extra 'finger'.*fingerprint"),
        ({"extra_dejson": {"insecure": "flase"}}, "neither true nor false"),
        ({"extra_dejson": {"request_timeout": "soon"}}, "soon"),
    ],
)
def test_a_wrong_connection_says_what_is_wrong(
    changed: dict[str, Any], text: str
) -> None:
    """No typing error switches the verification off, or is passed over."""
    with pytest.raises(ValueError, match=text) as caught:
        read_server(Connection(**changed))
    assert "planted-password" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "console"),
    [
        ("https://em.example:9398", "https://em.example:9443/"),
        ("https://[::1]:9398", "https://[::1]:9443/"),
    ],
)
def test_the_console_has_a_port_of_its_own(url: str, console: str) -> None:
    """People look at the server there; the name is that of the connection."""
    server = Server(conn_id="em", url=url, username="u", password="planted-password")
    assert server.console_url == console
    assert "planted-password" not in repr(server)
