"""Connections of Airflow, read as what `connect` takes."""

import json
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
    extra: Any = None


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
    assert read_server(Connection(extra=json.dumps(extra))).options == {
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
        ({"password": ""}, "and a password"),
        ({"host": "https://svc:planted-password"}, "neither a name nor a URL"),
        ({"host": "em.example:99999"}, "neither a name nor a URL"),
        ({"extra": {"finger": "ab"}}, "unknown extra 'finger'.*fingerprint"),
        ({"extra": {"insecure": "flase"}}, "neither true nor false"),
        ({"extra": {"request_timeout": "soon"}}, "'em': request_timeout is no number"),
        ({"extra": {"patience": [1]}}, "'em': patience is no number"),
        ({"extra": {"max_in_flight": True}}, "'em': max_in_flight is no number"),
        ({"extra": {"pace_longest": "nan"}}, "'em': pace_longest is no number"),
        ({"extra": {"ca_file": {"a": 1}}}, "'em': ca_file is no text"),
        ({"extra": {"proxy": "http://u:planted-password@p:1"}}, "'proxy_secret'"),
        ({"extra": '{"insecure": true'}, "no JSON object"),
        ({"extra": "planted-password"}, "no JSON object"),
        ({"extra": "[1]"}, "no JSON object"),
    ],
)
def test_a_wrong_connection_says_what_is_wrong(
    changed: dict[str, Any], text: str
) -> None:
    """No typing error switches the verification off, or is passed over."""
    with pytest.raises(ValueError, match=text) as caught:
        read_server(Connection(**changed))
    assert "planted-password" not in str(caught.value)


def test_a_proxy_with_an_account_has_a_name_that_airflow_masks() -> None:
    """Airflow shows other extras to whoever may look at connections."""
    proxy = "http://u:planted-password@proxy.example:3128"
    server = read_server(Connection(extra={"proxy_secret": proxy}))
    assert server.options == {"proxy": proxy}
    assert "planted-password" not in repr(server)


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
