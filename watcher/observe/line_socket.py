"""A connection that tells lines of JSON, each of a type that it names."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class LineSocket[L]:
    """See the module's docstring. Who makes one connects its socket.

    Args:
        decoder: decodes the lines of the types that are known; others are skipped.
        timeout: seconds after which a call that waits raises `TimeoutError`; `None`: never.
        part: bytes that :meth:`received` takes at once, at most.
        longest: bytes that a line may have.
    """

    def __init__(
        self,
        decoder: msgspec.json.Decoder[L],
        timeout: float | None,
        part: int,
        longest: float = math.inf,
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._decoder = decoder
        self._part = part
        self._longest = longest
        self._rest = b""

    def fileno(self) -> int:
        """The descriptor, readable when there are lines."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def received(self) -> list[L] | None:
        """Wait until something comes; its whole lines, perhaps none, or `None` at the end.

        Raises:
            BlockingIOError, TimeoutError: nothing has come in time.
            OSError: the connection is broken.
            msgspec.DecodeError: it is none of this program.
        """
        try:
            part = self._socket.recv(self._part)
        except ConnectionResetError:
            return None
        if not part:
            return None
        whole, _, self._rest = (self._rest + part).rpartition(b"\n")
        if len(self._rest) > self._longest:
            raise msgspec.DecodeError("a line does not end")
        try:
            return self._decoded(whole)
        except RecursionError:
            raise msgspec.DecodeError("a line is nested too deeply") from None

    def _decoded(self, whole: bytes) -> list[L]:
        try:
            return self._decoder.decode_lines(whole)
        except msgspec.ValidationError:  # one is of an unknown type
            return list(self._known(whole.split(b"\n")))

    def _known(self, lines: Iterable[bytes]) -> Iterator[L]:
        for line in lines:
            with suppress(msgspec.ValidationError):
                yield self._decoder.decode(line)
