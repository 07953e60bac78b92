"""The keyword arguments of the doors, checked before anything is sent."""

import math
import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veeam_tasks import Pace, SessionManager, adopt, connect
from veeam_tasks._options.glance import _LOOKS
from veeam_tasks._options.keywords import DEFAULTS, Options
from veeam_tasks._options.settings import make_settings

URL = "https://em.example:9398"


def settings_of(**options: object) -> object:
    """Return settings of options that mypy would not let pass."""
    return make_settings(URL, options)  # type: ignore[arg-type] # wrong ones are the point


def test_defaults() -> None:
    """What every keyword is that is not given."""
    settings = make_settings(URL, {})
    assert str(settings.base) == "https://em.example:9398/api/"
    assert settings.api_version == "latest"
    assert (settings.accept, settings.media_type) == ("xml", "application/xml")
    assert settings.pace == Pace()
    assert settings.request_timeout == 30.0
    assert settings.max_in_flight == 16
    assert settings.patience is None
    assert settings.keep_alive is True
    assert (settings.resource_bytes, settings.collection_bytes) == (1 << 20, 64 << 20)
    assert settings.coalesce == "auto"
    assert settings.proxy is None
    assert settings.on_notice is None
    assert settings.trust.insecure is False


def test_each_keyword_has_a_type_a_default_and_a_look() -> None:
    """One that lacks any of these is found here, and not by a KeyError of `connect`."""
    assert DEFAULTS.keys() == Options.__annotations__.keys()
    assert DEFAULTS.keys() == _LOOKS.keys()


def test_one_limit_for_all_replies() -> None:
    """`max_reply_bytes` given is the limit for one resource and for a collection."""
    settings = make_settings(URL, {"max_reply_bytes": 5000})
    assert (settings.resource_bytes, settings.collection_bytes) == (5000, 5000)


def test_json_is_asked_for_by_name() -> None:
    """`accept="json"` asks for application/json."""
    assert make_settings(URL, {"accept": "json"}).media_type == "application/json"


@pytest.mark.parametrize("version", ["latest", "v1_7", "v1_4"])
def test_api_versions(version: str) -> None:
    """`api_version` is "latest" or like "v1_7"."""
    assert make_settings(URL, {"api_version": version}).api_version == version


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_version": "1.7"}, "api_version='1.7': write 'latest' or like 'v1_7'"),
        ({"api_version": "v1_7&x=1"}, "api_version"),
        ({"api_version": 7}, "api_version=7"),
        ({"accept": "yaml"}, "accept='yaml': choose one of xml, json"),
        ({"accept": None}, "accept=None"),
        ({"coalesce": True}, "coalesce=True: choose one of auto, never, always"),
        ({"request_timeout": 0}, "request_timeout=0: it must be more than 0"),
        ({"request_timeout": math.inf}, "request_timeout=inf"),
        ({"request_timeout": math.nan}, "request_timeout=nan"),
        ({"request_timeout": 10**400}, "request_timeout must be seconds: this number"),
        ({"patience": -1}, "patience=-1"),
        ({"patience": 10**400}, "patience must be seconds: this number is far out"),
        ({"max_in_flight": 0}, "max_in_flight=0: it must be 1 or more"),
        ({"max_reply_bytes": 0}, "max_reply_bytes=0"),
        ({"proxy": "proxy.example:3128"}, "proxy is no http:// URL"),
        ({"proxy": "socks5://h:1"}, "proxy is no http:// URL"),
        ({"proxy": "http://h:port"}, "proxy is no http:// URL"),
    ],
)
def test_wrong_values(options: dict[str, object], said: str) -> None:
    """Wrong arguments raise `ValueError` before anything is sent."""
    with pytest.raises(ValueError, match=r".") as caught:
        settings_of(**options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"insecure": 1}, "insecure must be True or False, not 1"),
        ({"pace": 5}, "pace must be a Pace, not int"),
        ({"request_timeout": "30"}, "request_timeout must be seconds, not '30'"),
        ({"request_timeout": None}, "request_timeout must be seconds"),
        ({"patience": True}, "patience must be seconds, not True"),
        ({"max_in_flight": 1.5}, "max_in_flight must be a whole number, not 1.5"),
        ({"max_in_flight": True}, "max_in_flight must be a whole number"),
        ({"max_reply_bytes": "1"}, "max_reply_bytes must be a whole number"),
        ({"keep_alive": 1}, "keep_alive must be True or False, not 1"),
        ({"proxy": 3}, "proxy must be a URL, not int"),
        ({"on_notice": 3}, "on_notice must be a plain function, not int"),
        ({"timeout": 3}, "unexpected keyword argument 'timeout'"),
        ({"api_version": None}, "api_version"),
    ],
)
def test_wrong_types(options: dict[str, object], said: str) -> None:
    """Wrong arguments raise `TypeError` (or ValueError) before anything is sent."""
    with pytest.raises((TypeError, ValueError)) as caught:
        settings_of(**options)
    assert said in str(caught.value)


async def notice(told: object) -> None:
    """Be no plain function."""


class Told:
    """A callable whose call is a coroutine function."""

    async def __call__(self, told: object) -> None:
        """Be no plain function either."""


@pytest.mark.parametrize("function", [notice, Told()])
def test_on_notice_is_a_plain_function(function: object) -> None:
    """`on_notice` is a plain function: a coroutine function is a TypeError."""
    with pytest.raises(TypeError, match="plain function, not a coroutine"):
        settings_of(on_notice=function)


def test_ssl_false_names_insecure() -> None:
    """`ssl=False` is a ValueError that names `insecure`."""
    with pytest.raises(ValueError, match="insecure=True"):
        settings_of(ssl=False)


@pytest.mark.parametrize(
    "options",
    [
        {"ca_file": "/nowhere", "fingerprint": "00" * 32},
        {"ssl": ssl.create_default_context(), "insecure": True},
        {"fingerprint": "00" * 32, "insecure": True},
    ],
)
def test_trust_is_one_of_four(options: dict[str, object]) -> None:
    """Trust: at most one of ssl, ca_file, fingerprint, insecure."""
    with pytest.raises(ValueError, match="one of"):
        settings_of(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"ssl": ssl.create_default_context()},
        {"ca_file": "/nowhere"},
        {"fingerprint": "00" * 32},
    ],
)
def test_trust_is_for_tls(options: Options) -> None:
    """The other three with `http://` are a `ValueError`."""
    with pytest.raises(ValueError, match="http"):
        make_settings("http://localhost:9399", options)


def test_proxy_password_is_not_repeated() -> None:
    """A proxy that cannot be read is not repeated, and no repr shows a proxy."""
    with pytest.raises(ValueError, match="proxy") as caught:
        settings_of(proxy="ftp://user:prxysecret@h")
    assert "prxysecret" not in str(caught.value)
    good = make_settings(URL, {"proxy": "http://user:prxysecret@h:1"})
    assert "prxysecret" not in repr(good)


def direct(url: str) -> object:
    """Build a manager directly."""
    return SessionManager(url, username="u", password="p")


def by_connect(url: str) -> object:
    """Build a manager by `connect`."""
    return connect(url, username="u", password="p")


def by_adopt(url: str) -> object:
    """Build a manager by `adopt`."""
    return adopt(url, "dG9rZW4=")


DOORS = (direct, by_connect, by_adopt)


@pytest.mark.parametrize("door", DOORS)
def test_user_information_is_refused(door: Callable[[str], object]) -> None:
    """A URL with user information in it is a `ValueError` that does not repeat it."""
    with pytest.raises(ValueError, match="user information") as caught:
        door("https://jane:hunter22@em.example:9398")
    assert "hunter22" not in str(caught.value)
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize("door", DOORS)
def test_plain_http_is_refused(door: Callable[[str], object]) -> None:
    """`http://` to a host that is not loopback needs `insecure=True`."""
    with pytest.raises(ValueError, match="insecure=True"):
        door("http://em.example:9399")
    door("http://127.0.0.1:9399")
    door("http://localhost:9399")


@given(number=st.floats(min_value=0.001, max_value=1e6))
def test_any_positive_seconds(number: float) -> None:
    """Seconds may be any finite number above 0."""
    settings = make_settings(URL, {"request_timeout": number, "patience": number})
    assert (settings.request_timeout, settings.patience) == (number, number)
