"""Whom to trust: what the caller said of it, and a look at the server's certificate.

Enterprise Manager servers come with self-signed certificates, so a caller may name a
CA file or pin the one certificate. Nothing is switched off but by ``insecure=True``.
"""

import asyncio
import base64
import hashlib
import inspect
import os
import re
import socket
import ssl as tls
import warnings
from asyncio import Protocol, get_running_loop
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any

import anyio
import anyio.to_thread
import attrs
from aiohappyeyeballs import start_connection
from yarl import URL

from veeam_tasks._errors import ArgumentError, RequestTimeoutError, TransportError
from veeam_tasks._redaction import Secret, of_the_package, quoted, visible
from veeam_tasks._transport.errors import transport_kind as error_class
from veeam_tasks._transport.held import running_for

LOOK_SECONDS = 10.0
"""How long `inspect_certificate` waits, unless told otherwise."""

_HANG_UP_SECONDS = 1.0
_NEXT_ADDRESS_SECONDS = 0.25
_LONG_CA_FILE = 1 << 15
"""Bytes of a file of CAs above which it is read in a thread: a bundle of the system's
has 200 KiB and takes 40 ms, so this takes 6."""

_PEM = re.compile(rb"^-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----", re.MULTILINE)
_SHA256_HEX = re.compile(r"[0-9A-F]{64}", re.ASCII)
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
}
_NO_CHECK_TIME = 0x200000
"""``X509_V_FLAG_NO_CHECK_TIME`` of OpenSSL; the ssl module has no name for it."""


@attrs.frozen(kw_only=True)
class Trust:
    """What a server must show before anything is sent to it.

    Attributes:
        context: Verifies the server; None for the system's CAs.
        ca_file: A long file of CAs that is still to be read, or None.
        fingerprint: SHA-256 of the one certificate that is trusted, or None.
        insecure: Whether any server is trusted.
    """

    context: tls.SSLContext | None = attrs.field(default=None, repr=False)
    ca_file: str | None = None
    fingerprint: bytes | None = None
    insecure: bool = False

    async def make_context(self) -> tls.SSLContext | None:
        """Return what verifies the server, None for the system's CAs.

        Raises:
            ValueError: The file of CAs cannot be read.
        """
        if self.ca_file is None:
            return self.context
        return await anyio.to_thread.run_sync(
            _context_for, self.ca_file, abandon_on_cancel=True
        )


@attrs.frozen(kw_only=True)
class Certificate:
    """The certificate that a server shows, as it says itself: nothing was verified.

    Attributes:
        fingerprint: SHA-256, as upper-case hex pairs with colons.
        subject: Whom it names, as ``CN=em.example, O=Example``; None if unreadable.
        issuer: Who signed it, likewise.
        not_before: From when on it is valid (aware, UTC), or None.
        not_after: Until when, likewise.
        names: The host names and addresses that it is for.
    """

    fingerprint: str
    subject: str | None = None
    issuer: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    names: tuple[str, ...] = ()


def make_trust(
    url: URL,
    *,
    ssl: tls.SSLContext | None,
    ca_file: str | os.PathLike[str] | None,
    fingerprint: str | None,
    insecure: bool,
) -> Trust:
    """Return what was said of trust, checked; at most one of the four may be given.

    Args:
        url: Where the server is.
        ssl: A context of the caller's own; one that verifies nothing warns.
        ca_file: PEM file with the certificates to trust instead of the system's.
        fingerprint: SHA-256 of the server's certificate, hex with or without colons.
        insecure: Trust any server, and allow ``http://`` to any host; this warns.

    Raises:
        TypeError: `ssl` is no context, `ca_file` no path, or `fingerprint` no string.
        ValueError: They contradict each other or the URL, or one of them is not
            what it should be.
    """
    _check_together(
        url,
        {"ssl": ssl, "ca_file": ca_file, "fingerprint": fingerprint},
        insecure=insecure,
    )
    if insecure:
        _warn(
            "insecure=True: the server's certificate is not verified, so anyone on the"
            " way can read the password"
        )
        return Trust(insecure=True)
    if ca_file is not None:
        path = _path_of(ca_file)
        if _is_long(path):
            return Trust(ca_file=path)
        return Trust(context=_context_for(path))
    if fingerprint is not None:
        return Trust(fingerprint=_digest_of(fingerprint))
    if ssl is not None and ssl.verify_mode is tls.CERT_NONE:
        _warn(
            "ssl=: this context verifies nothing (its verify_mode is CERT_NONE), so"
            " anyone on the way can read the password; pass ca_file= or fingerprint="
            " instead"
        )
    return Trust(context=ssl)


def _warn(text: str) -> None:
    """Warn, and name the line that called this package, whichever way in it took."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("veeam_tasks.")


def _check_together(url: URL, given: dict[str, object], *, insecure: bool) -> None:
    context = given["ssl"]
    if context is False:
        raise ArgumentError(
            parameter="ssl",
            problem="is not accepted",
            shown="False",
            subject="ssl=False",
            advice="insecure=True switches verification off",
        )
    if not isinstance(context, tls.SSLContext | None):
        message = f"ssl must be an ssl.SSLContext, not {type(context).__name__}"
        raise TypeError(message)
    names = [name for name, value in given.items() if value is not None]
    if len(names) + insecure > 1:
        given_names = [*names, *(["insecure"] if insecure else [])]
        raise ArgumentError(
            parameter=given_names[0],
            problem="pass one of them at most",
            advice="they contradict each other",
            others=tuple(given_names[1:]),
            subject=f"{', '.join(given_names)}:",
        )
    if names and url.scheme != "https":
        problem = f"has no meaning for {url}, which has no TLS"
        raise ArgumentError(parameter=names[0], problem=problem, subject=f"{names[0]}=")


def _path_of(ca_file: object) -> str:
    path = os.fspath(ca_file) if isinstance(ca_file, os.PathLike) else ca_file
    if not isinstance(path, str):
        message = f"ca_file must be the path of a file, not {type(path).__name__}"
        raise TypeError(message)
    if not path:
        advice = "name a file with certificates in PEM form"
        raise ArgumentError(parameter="ca_file", problem="is empty", advice=advice)
    return path


def _is_long(ca_file: str) -> bool:
    """Tell whether to read it would hold a loop; not of what is no PEM file."""
    try:
        with open(ca_file, "rb") as file:  # noqa: PTH123 a NUL in it is a ValueError
            content = file.read()
    except (OSError, ValueError):
        return False
    return len(content) > _LONG_CA_FILE and _PEM.search(content) is not None


def _context_for(ca_file: str) -> tls.SSLContext:
    try:
        context = tls.create_default_context(cafile=ca_file)
        problem = ""
    except (OSError, ValueError) as error:
        # A path with a NUL or a lone surrogate is a ValueError.
        words = getattr(error, "strerror", None) or str(error)
        problem = f"{type(error).__name__}: {visible(words)}"
    if problem:
        raise ArgumentError(
            parameter="ca_file",
            problem=f"holds no certificate in PEM form that can be read: {problem}",
            shown=visible(ca_file),
            subject=f"ca_file: {visible(ca_file)}",
        )
    # One certificate named by the caller is trusted as it is, whoever signed it; and
    # what Python 3.13 demands beyond that many a company's own CA lacks.
    context.verify_flags |= tls.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~tls.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


def _digest_of(fingerprint: object) -> bytes:
    if not isinstance(fingerprint, str):
        message = f"fingerprint must be a string, not {type(fingerprint).__name__}"
        raise TypeError(message)
    digits = fingerprint.strip().replace(":", "").upper()
    if not _SHA256_HEX.fullmatch(digits):
        raise ArgumentError(
            parameter="fingerprint",
            problem="must be a SHA-256: 64 hex digits, with or without colons; this has"
            f" {len(digits)} characters without the colons",
        )
    return bytes.fromhex(digits)


def readable(digest: bytes) -> str:
    """Return a fingerprint as people compare it: ``AB:CD:...``."""
    return digest.hex(":").upper()


async def inspect_certificate(
    host: str,
    port: int,
    *,
    seconds: float = LOOK_SECONDS,
    proxy: Secret | None = None,
) -> Certificate:
    """Return the certificate that a server shows; no request is sent to it.

    The second of two handshakes trusts the certificate itself, since the ssl module
    decodes none that it did not verify. If that fails, the fingerprint is all.

    Raises:
        TransportError: The server cannot be reached, or speaks no TLS.
        RequestTimeoutError: It did not answer within `seconds`.
    """
    request = f"TLS handshake with {visible(host)}:{port}"
    shake_hands = _shake_hands if proxy is None else partial(_shake_by, proxy)
    found: Certificate | None = None
    failure: TransportError | None = None
    async with running_for(seconds):
        try:
            der, _ = await shake_hands(host, port, _context(None))
            found = Certificate(fingerprint=readable(hashlib.sha256(der).digest()))
            _, said = await shake_hands(host, port, _context(der))
            found = _described(found, said)
        except (OSError, ValueError) as error:
            text = visible(str(error))
            failure = TransportError(
                request=request,
                reason=f"{type(error).__name__}: {text}",
                kind="proxy" if isinstance(error, _ProxyError) else error_class(error),
                detail=text,
            )
    if found is not None:
        return found
    if failure is not None:
        raise failure
    raise RequestTimeoutError(
        request=request, reason=f"no answer in {seconds:g} s", kind="timeout"
    )


def _context(anchor: bytes | None) -> tls.SSLContext:
    """Return a context for a look: one that trusts just `anchor`, or anything."""
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if anchor is None:
        context.verify_mode = tls.CERT_NONE
    else:
        context.load_verify_locations(cadata=anchor)
        context.verify_flags |= tls.VERIFY_X509_PARTIAL_CHAIN
        # An expired certificate is worth a look most of all.
        context.verify_flags |= _NO_CHECK_TIME
    return context


class _Look(Protocol):
    """A connection that says nothing and tells when it is gone."""

    def __init__(self) -> None:
        self.gone = anyio.Event()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's signature
        self.gone.set()


async def _shake_hands(
    host: str, port: int, context: tls.SSLContext
) -> tuple[bytes, dict[str, Any]]:
    """Connect, shake hands, hang up; return what the server's certificate holds."""
    transport, look = await get_running_loop().create_connection(
        _Look, sock=await _connected(host, port), ssl=context, server_hostname=host
    )
    peer = transport.get_extra_info("ssl_object")
    der, said = peer.getpeercert(binary_form=True), peer.getpeercert()
    transport.close()
    try:
        with anyio.move_on_after(_HANG_UP_SECONDS, shield=True):
            await look.gone.wait()
    finally:
        transport.abort()
    return der, said


async def _connected(host: str, port: int) -> socket.socket:
    """Return a socket that is connected.

    Of a name with several addresses a dead one holds up the next for a moment only.
    Loops promise no such thing: uvloop has no ``happy_eyeballs_delay``, and asyncio's
    fails with eager tasks. So it is done by what aiohttp connects with.
    """
    kind = socket.SOCK_STREAM
    try:
        # An address needs no look-up, and so no thread.
        addresses = socket.getaddrinfo(
            host, port, type=kind, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        addresses = await get_running_loop().getaddrinfo(host, port, type=kind)
    return await start_connection(
        addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1
    )


class _ProxyError(ConnectionError):
    """A proxy could not be reached, or does not let us through."""


async def _shake_by(
    proxy: Secret, host: str, port: int, context: tls.SSLContext
) -> tuple[bytes, dict[str, Any]]:
    """Do as `_shake_hands`, through a tunnel of an HTTP proxy."""
    way = URL(proxy.reveal()).origin()  # without account and password
    try:
        reader, writer = await asyncio.open_connection(
            sock=await _connected(way.host or "", way.port or 0),
            ssl=True if way.scheme == "https" else None,
            server_hostname=way.host if way.scheme == "https" else None,
        )
    except OSError as error:
        raise _ProxyError(str(error)) from None
    try:
        writer.write(_connect_request(proxy, host, port))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (EOFError, asyncio.LimitOverrunError):
            head = b""
        status = head.partition(b"\r\n")[0].decode("ascii", "replace")
        if not re.match(r"HTTP/1\.[01] 2[0-9][0-9]\b", status):
            problem = f"the proxy answered {quoted(status)}"
            raise _ProxyError(problem)
        await writer.start_tls(context, server_hostname=host)
        peer = writer.get_extra_info("ssl_object")
        return peer.getpeercert(binary_form=True), peer.getpeercert()
    finally:
        writer.close()
        with anyio.move_on_after(_HANG_UP_SECONDS, shield=True), suppress(OSError):
            await writer.wait_closed()
        writer.transport.abort()


def _connect_request(secret: Secret, host: str, port: int) -> bytes:
    proxy = URL(secret.reveal())
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.user is not None:
        account = f"{proxy.user}:{proxy.password or ''}".encode()
        basic = base64.b64encode(account).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {basic}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _described(found: Certificate, said: dict[str, Any]) -> Certificate:
    return attrs.evolve(
        found,
        subject=_named(said["subject"]),
        issuer=_named(said["issuer"]),
        not_before=_moment(said["notBefore"]),
        not_after=_moment(said["notAfter"]),
        names=tuple(visible(name) for _, name in said.get("subjectAltName", ())),
    )


def _named(parts: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    return visible(
        ", ".join(
            f"{_SHORT.get(kind, kind)}={value}"
            for part in parts
            for kind, value in part
        )
    )


def _moment(written: str) -> datetime:
    return datetime.fromtimestamp(tls.cert_time_to_seconds(written), UTC)


of_the_package(
    Certificate,
)
