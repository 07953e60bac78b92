"""A throw-away CA and certificates of it, for a server that speaks TLS."""

import hashlib
import importlib
import re
import shutil
import ssl
import tempfile
import weakref
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import trustme

_CERTIFICATE: Final = re.compile(
    "-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)
_NAMES: Final = ("localhost", "127.0.0.1", "::1")


class GivenCertificate:
    """A certificate that somebody else made, with its key in the same file.

    Args:
        path: A file in PEM: the key, the certificate, then what issued it.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no key, or no certificate.
    """

    def __init__(self, path: str) -> None:
        self.ca_file = path
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        found = _CERTIFICATE.search(
            Path(path).read_text(encoding="ascii", errors="replace")
        )
        problem = "" if found else "there is no certificate in it"
        try:
            self.context.load_cert_chain(path)
        except ssl.SSLError as error:
            problem = problem or str(error.reason or error)
        if found is None or problem:
            text = f"{path} is no certificate with its key, in PEM: {problem}"
            raise ValueError(text)
        der = ssl.PEM_cert_to_DER_cert(found[0])
        self.fingerprint = hashlib.sha256(der).hexdigest()

    def change(self, *, new_ca: bool = False, expires: datetime | None = None) -> None:
        """Refuse to show another one.

        Raises:
            RuntimeError: Always; the certificate was given.
        """
        del new_ca, expires
        problem = "a certificate that was given by cert_file cannot be changed"
        raise RuntimeError(problem)


class Certificates:
    """The certificates of one server, with files in a folder of their own.

    Args:
        host: Where the server listens; its certificate names it.

    Raises:
        ImportError: trustme is not installed.
    """

    def __init__(self, host: str) -> None:
        try:
            self._trustme = importlib.import_module("trustme")
            problem = ""
        except ImportError:
            problem = (
                "a simulated server with TLS needs trustme:"
                ' python -m pip install "veeam-tasks[simulator]"'
            )
        if problem:
            raise ImportError(problem)
        self._folder = Path(tempfile.mkdtemp(prefix="veeam-tasks-"))
        # A TemporaryDirectory would warn when a server that was closed is forgotten.
        self._remove = weakref.finalize(
            self, shutil.rmtree, self._folder, ignore_errors=True
        )
        self._names = tuple(dict.fromkeys((*_NAMES, host)))
        self._count = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.fingerprint = ""
        self._new_ca()
        self.change()

    @property
    def ca_file(self) -> str:
        """The path of the CA's certificate, in PEM."""
        return str(self._ca_file)

    def change(self, *, new_ca: bool = False, expires: datetime | None = None) -> None:
        """Show another certificate on connections from now on.

        Args:
            new_ca: Issue it from another CA, whose file `ca_file` then names.
            expires: When it ends; None for a time far away.
        """
        if new_ca:
            self._new_ca()
        leaf = self._ca.issue_cert(*self._names, not_after=expires)
        leaf.configure_cert(self.context)
        der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode("ascii"))
        self.fingerprint = hashlib.sha256(der).hexdigest()

    def _new_ca(self) -> None:
        self._count += 1
        self._ca: trustme.CA = self._trustme.CA()
        self._ca_file = self._folder / f"ca-{self._count}.pem"
        self._ca.cert_pem.write_to_path(str(self._ca_file))
