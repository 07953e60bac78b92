"""What the errors of aiohttp and of TLS become, and what of their text is kept."""

import errno
import re
import socket
import ssl

import aiohttp

from veeam_tasks._errors import (
    CertificateError,
    MalformedReplyError,
    TransportError,
    TransportKind,
    VeeamTasksError,
)

CUT = "Not enough data"
"""What aiohttp says of a body that ended too early."""

_QUOTED = re.compile(r"(?:^|[\s:]+)(?:bytearray\()?b?['\"]|:?\s*\n")

_LONGEST_SHOWN = 500

# Of which context aiohttp tells the repr, which means nothing to anybody.
_SSL = re.compile(r" ssl:(?:<[^>]*>|\S+)(?= \[)")


class DisconnectedError(aiohttp.ClientError):
    """Stands for an error after which aiohttp would send the request again.

    Args:
        name: The class of that error.
        text: What `describe` says of it.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text


_KINDS: dict[str, type[VeeamTasksError]] = {
    "ClientConnectionError": TransportError,
    "ClientConnectionResetError": TransportError,
    "ClientConnectorCertificateError": CertificateError,
    "ClientConnectorDNSError": TransportError,
    "ClientConnectorError": TransportError,
    "ClientConnectorSSLError": TransportError,
    "ClientHttpProxyError": TransportError,
    "ClientOSError": TransportError,
    "ClientPayloadError": MalformedReplyError,
    "ClientProxyConnectionError": TransportError,
    "ClientResponseError": MalformedReplyError,
    "ClientSSLError": TransportError,
    "ConnectionTimeoutError": TransportError,
    "ContentTypeError": MalformedReplyError,
    "InvalidURL": TransportError,
    "InvalidUrlClientError": TransportError,
    "InvalidUrlRedirectClientError": MalformedReplyError,
    "NonHttpUrlClientError": TransportError,
    "NonHttpUrlRedirectClientError": MalformedReplyError,
    "RedirectClientError": MalformedReplyError,
    "ServerConnectionError": TransportError,
    "ServerDisconnectedError": TransportError,
    "ServerFingerprintMismatch": CertificateError,
    "ServerTimeoutError": TransportError,
    "SocketTimeoutError": TransportError,
    "TooManyRedirects": MalformedReplyError,
    "UnixClientConnectorError": TransportError,
    "UploadAbortedError": TransportError,
    "WSMessageTypeError": MalformedReplyError,
    "WSServerHandshakeError": MalformedReplyError,
    "DisconnectedError": TransportError,
    "SSLCertVerificationError": CertificateError,
    "OSError": TransportError,
    "RuntimeError": TransportError,
}
"""What each foreign error becomes, by name, since not every aiohttp has them all.

Anything else is the fault of what was read.
"""


_UNCONNECTED = {
    "ClientConnectorError",
    "ClientHttpProxyError",
    "ConnectionTimeoutError",
    "InvalidURL",
    "NonHttpUrlClientError",
}


def error_class(error: Exception) -> type[VeeamTasksError]:
    """Return which of our errors stands for a foreign one."""
    if isinstance(error, aiohttp.ClientPayloadError) and CUT in str(error):
        return TransportError
    names = (cls.__name__ for cls in type(error).__mro__)
    return next((_KINDS[name] for name in names if name in _KINDS), MalformedReplyError)


def is_connect_failure(error: Exception) -> bool:
    """Return whether a foreign error says that no connection could be made."""
    return any(cls.__name__ in _UNCONNECTED for cls in type(error).__mro__)


_OF_CLASS: dict[TransportKind, tuple[type[Exception], ...]] = {
    "disconnected": (DisconnectedError, aiohttp.ServerDisconnectedError),
    "proxy": (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
    "timeout": (aiohttp.ServerTimeoutError,),
    "unknown_host": (aiohttp.ClientConnectorDNSError, socket.gaierror),
}
_OF_ERRNO: dict[int, TransportKind] = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "no_route",
    errno.ENETUNREACH: "no_route",
    errno.EADDRNOTAVAIL: "no_route",
    errno.ETIMEDOUT: "timeout",
    errno.ECONNRESET: "disconnected",
    errno.EPIPE: "disconnected",
}


def transport_kind(error: BaseException) -> TransportKind:
    """Return which of the usual causes a foreign error tells of.

    An `OSError` counts as it is, too, and one that stands for the failures of several
    addresses of a name counts as the first of them.
    """
    for kind, classes in _OF_CLASS.items():
        if isinstance(error, classes):
            return kind
    if isinstance(error, aiohttp.ClientConnectorError):
        return transport_kind(error.os_error)
    if isinstance(error, ssl.SSLError):
        return "no_tls" if _is_no_tls(error) else "tls"
    number = error.errno if isinstance(error, OSError) else None
    return _OF_ERRNO.get(number or 0, "other")


def describe(error: Exception) -> tuple[str, str]:
    """Return a foreign error's class, and its text without what it quotes of a reply.

    The text may be empty.
    """
    name, text = type(error).__name__, str(error)
    match error:
        case DisconnectedError():
            return error.name, error.text
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            text = (getattr(cause, "verify_message", "") or str(cause)).rstrip(".")
        case aiohttp.ClientConnectorSSLError() if _is_no_tls(error.os_error):
            text = (
                f"{text}: what answers there does not speak TLS; is it another port, or"
                " is http:// meant?"
            )
        case aiohttp.ServerFingerprintMismatch():
            text = "its fingerprint is not the one that is pinned"
        case aiohttp.ServerDisconnectedError():
            # Its message may be the head of a reply, with a new token in it.
            text = "the server closed the connection without a reply"
        case aiohttp.ClientHttpProxyError():
            text = f"the proxy answered {error.status} {_unquoted(error.message)}"
        case aiohttp.ClientResponseError():
            text = _unquoted(error.message)
        case aiohttp.ClientPayloadError() if error.__cause__ is not None:
            name = f"{name}, {type(error.__cause__).__name__}"
            text = _unquoted(getattr(error.__cause__, "message", ""))
    if isinstance(error, aiohttp.ClientConnectorError):
        text = _SSL.sub("", text)
    return name, text


def _is_no_tls(error: OSError) -> bool:
    """Return whether the first bytes of an answer were of some other protocol."""
    return getattr(error, "reason", None) == "WRONG_VERSION_NUMBER"


def _unquoted(text: str) -> str:
    return _QUOTED.split(text, maxsplit=1)[0]


def beginning(text: str) -> str:
    """Return so much of a header's value as an error can show."""
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
