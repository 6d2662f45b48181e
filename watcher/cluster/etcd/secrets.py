"""The files that etcd is spoken to with: certificates, a key, a password.

Each is read when it is needed, so a renewed one counts without a restart.
"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path
from typing import Final

from watcher.cluster.etcd.errors import Refused
from watcher.cluster.etcd.words import Tls
from watcher.model.errors import message_of, quoted

_MAX_PASSWORD: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

type _Stamp = tuple[tuple[int, int, int, int], ...]


def read_password(path: str) -> str:
    """The password in a file, without the newline at its end.

    Raises:
        Refused: it cannot be read, others may read it, or it is empty.
    """
    what = f"the password file {quoted(path)}"
    try:
        with open(path, "rb", opener=_open) as file:
            _need_secret(what, path, os.fstat(file.fileno()))
            data = file.read(_MAX_PASSWORD + 1)
        password = data.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        remedy = "write the password of etcd's user into it, readable by root alone"
        why = error.strerror or "it cannot be read"
        raise Refused(f"{what}: {why}", _as_root(error) or remedy) from None
    except ValueError:  # or a NUL in the path
        raise Refused(f"{what} is no text", "write the password of etcd's user into it") from None
    if not password or len(data) > _MAX_PASSWORD:
        size = "too long" if password else "empty"
        raise Refused(f"{what} is {size}", "write the password of etcd's user into it")
    return password


def _open(path: str, flags: int) -> int:
    """A FIFO would be waited for."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _as_root(error: Exception) -> str:
    """The remedy of a user who may not read what is root's; empty for everybody else."""
    return "run as root" if isinstance(error, PermissionError) and os.geteuid() else ""


def _need_secret(what: str, path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{what} is no file", "name one")
    if found.st_mode & _OTHERS or found.st_uid not in (0, os.geteuid()):
        remedy = f"run `chown root {path}` and `chmod 600 {path}`"
        raise Refused(f"{what}: others may read it", remedy)


class Certificates:
    """What `https://` is spoken with: made once, and again when a file has changed."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._made: ssl.SSLContext | None = None
        self._stamp: _Stamp = ()

    def context(self) -> ssl.SSLContext:
        """Raises: Refused: a file cannot be used."""
        stamp = self._stamps()
        if self._made is None or stamp != self._stamp:
            self._made, self._stamp = self._make(), stamp
        return self._made

    def _stamps(self) -> _Stamp:
        stamps = []
        for path in filter(None, (self._tls.ca, self._tls.cert, self._tls.key)):
            try:
                found = Path(path).stat()
            except (OSError, ValueError) as error:
                raise Refused(
                    f"the file {quoted(path)} for TLS: {message_of(error)}",
                    _as_root(error) or "name by ca, cert and key in [cluster] files that are there",
                ) from None
            stamps.append((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))
        return tuple(stamps)

    def _make(self) -> ssl.SSLContext:
        tls = self._tls
        try:
            context = ssl.create_default_context(cafile=tls.ca or None)
            # From Python 3.13 on it is set, and refuses what etcd's own clients take: a CA without
            # a key usage, as `openssl req -x509` makes it.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if tls.cert:
                key = tls.key or tls.cert
                _need_secret(f"the key {quoted(key)}", key, Path(key).stat())
                context.load_cert_chain(tls.cert, key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            why = error.reason if isinstance(error, ssl.SSLError) else message_of(error)
            names = ", ".join(quoted(path) for path in (tls.ca, tls.cert, tls.key) if path)
            raise Refused(
                f"the files {names} for TLS cannot be used: {why or error}",
                _as_root(error)
                or "see that they are PEM, that the key is the certificate's, and has no password",
            ) from None
        return context


def _no_password() -> str:
    """OpenSSL would ask on the terminal for the one of an encrypted key."""
    raise ValueError("the key has a password")
