"""A throw-away CA and certificates of it, for a server that speaks TLS."""

import hashlib
import importlib
import shutil
import ssl
import tempfile
import weakref
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import trustme

_NAMES: Final = ("localhost", "127.0.0.1", "::1")


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
