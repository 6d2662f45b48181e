"""Copies of those sandboxes that neither annotations nor links tell, beside the lease store.

If the store is lost, annotations and links say what most sandboxes have. A host port that was
chosen, and what was changed while a container ran, stand in the store alone; so such a sandbox is
`kept`, and a file in `run_dir` has a copy of it. It is named by the inode number of the namespace.
Whether a copy is true is for the reader to find out: it has the inits of its members.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from handlers.context import Context
from handlers.handler import Difference, Handler, apply
from handlers.kernel.directories import make_directory
from watcher.model.address import AddressWithPrefix
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox

_NEW: Final = ".new"
"""What the name of a file ends in until it is complete."""


class CopiesHandler(Handler):
    """Owns the directory of copies, which root alone may read."""

    def __init__(self, context: Context) -> None:
        self._directory = Path(context.copies_dir)

    def appear(self, sandbox: Sandbox) -> None:
        """Write the copy of `sandbox`, if one is to be kept."""
        if sandbox.kept:
            self._write(sandbox)

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:
        """Remove the copy, or write it as the sandbox is now.

        If it cannot be written, it is only removed: that nobody has a port or an address any more
        is not to wait for room. Sync finds that it is missing.
        """
        if after is not None and after.kept:
            with suppress(OSError):
                self._write(after)
                return
        if before.kept:
            self._remove(str(before.netns))

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Have exactly the copies of the `sandboxes` for which one is kept."""
        return apply(self._differences(sandboxes), dry_run=dry_run)

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Remove the directory with all copies."""
        names = self._names()
        for name in names:
            self._remove(name)
        with suppress(OSError):  # it is missing, or has a directory in it
            self._directory.rmdir()
        return [f"removed {self._directory}/{name}" for name in names]

    def read(self, known: Iterable[Sandbox]) -> Iterator[Sandbox]:
        """The readable copies for other namespaces than those of `known` sandboxes.

        Their keys mean nothing to another lease store.
        """
        there = {str(sandbox.netns) for sandbox in known}
        for name in self._names():
            if name in there:
                continue
            copy = _decode(self._content(name))
            if copy is not None and str(copy.netns) == name:
                yield copy

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        kept = {str(sandbox.netns): sandbox for sandbox in sandboxes if sandbox.kept}
        for name, sandbox in kept.items():
            content = self._content(name)
            if content != _encode(sandbox):
                why = "it was missing" if content is None else "it was not as it should be"
                yield Difference(
                    Repair("wrote the copy of the sandbox", sandbox.id, why),
                    partial(self._write, sandbox),
                    alone=True,
                )
        for name in self._names():
            if name not in kept:
                yield Difference(
                    Repair(f"removed the copy {name}", "", "it is of no sandbox that needs one"),
                    partial(self._remove, name),
                    alone=True,
                )

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._directory) as entries:
                return sorted(e.name for e in entries if not e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def _content(self, name: str) -> bytes | None:
        """What is in a file; `None` if there is none, or it is something else."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._directory / name, flags)
        except OSError:
            return None
        with open(descriptor, "rb") as file:  # noqa: PTH123 (no link is followed)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return file.read()

    def _write(self, sandbox: Sandbox) -> None:
        """Write a copy; whoever reads it meanwhile finds the one before, or all of the new one."""
        path = f"{self._directory}/{sandbox.netns}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path + _NEW, flags, 0o600)
        except FileNotFoundError:
            make_directory(self._directory, 0o700)
            descriptor = os.open(path + _NEW, flags, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 (hot path)
            file.write(_encode(sandbox))
        os.rename(path + _NEW, path)  # noqa: PTH104 (hot path)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self._directory}/{name}")  # noqa: PTH108 (hot path)


def _encode(sandbox: Sandbox) -> bytes:
    """A sandbox as a document, without its number in the lease store."""
    return _ENCODER.encode(replace(sandbox, key=0))


def _decode(content: bytes | None) -> Sandbox | None:
    """The sandbox of a document; `None` if it is none."""
    try:
        return _DECODER.decode(content or b"")
    except (msgspec.MsgspecError, ValueError):
        return None


def _address(kind: object, text: str) -> object:
    return ip_interface(text) if kind is AddressWithPrefix else ip_address(text)


_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)
_DECODER: Final = msgspec.json.Decoder(Sandbox, dec_hook=_address)
