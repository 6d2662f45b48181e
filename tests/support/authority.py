"""Certificates for tests, made by openssl."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
_PAST: Final = ("-not_before", "20240101000000Z", "-not_after", "20241231000000Z")
_serials = itertools.count(1)


class Authority:
    """Whose certificates count.

    Args:
        directory: where it puts all files; it is made.

    Attributes:
        ca: the file with its own certificate.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.ca = directory / "ca.pem"
        _openssl("req", "-x509", *_KEY, "-keyout", directory / "ca.key", "-out", self.ca,
                 "-subj", "/CN=test", "-days", "30")  # fmt: skip

    def issue(
        self,
        name: str,
        addresses: Sequence[str] = (),
        *,
        usage: str = "serverAuth,clientAuth",
        expired: bool = False,
    ) -> tuple[Path, Path]:
        """A certificate for servers at `addresses`, and for clients, and its key.

        Args:
            usage: what it is for.
            expired: whether it is of a year that has ended.
        """
        cert, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        valid = _PAST if expired else ("-days", "30")
        names = ",".join(["DNS:localhost", *(f"IP:{address}" for address in addresses)])
        _openssl("req", "-x509", *_KEY, "-keyout", key, "-out", cert, "-subj", "/O=watcher",
                 "-CA", self.ca, "-CAkey", self._directory / "ca.key", *valid,
                 "-set_serial", str(next(_serials)), "-addext", f"subjectAltName={names}",
                 "-addext", "basicConstraints=critical,CA:FALSE",
                 "-addext", f"extendedKeyUsage={usage}")  # fmt: skip
        key.chmod(0o600)
        return cert, key


def _openssl(*args: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *args], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
