"""Rules of ours in chains of iptables, each marked by a comment.

They are made with the iptables command, so they are in the configured backend. Source: iptables(8).
"""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
from typing import Final

MARK: Final = ("-m", "comment", "--comment", "watcher")
"""The comment that marks this program's rules."""

_WAIT: Final = "2"
"""Seconds to wait for the lock of iptables."""

HOST_ENDS: Final = "netnsv+"
"""All host ends, as iptables writes it."""


class IptablesRefused(OSError):
    """The iptables command failed."""


class Iptables:
    """The command `iptables` or `ip6tables`, on the chain `chain`."""

    def __init__(self, command: str, chain: str) -> None:
        self._command = command
        self._chain = chain
        self.name = f"{chain} of {command}"

    def listing(self) -> str | None:
        """The policy and the rules; `None` if there is no such chain, or no such command."""
        return self._call("-S", self._chain)

    def of_others(self) -> list[str]:
        """The policy and the rules of other programs."""
        lines = (self.listing() or "").splitlines()
        return [line for line in lines if " ".join(MARK) not in line]

    def has(self, rule: tuple[str, ...]) -> bool:
        """Whether the chain has `rule`."""
        return self._call("-C", self._chain, *rule) is not None

    def insert(self, place: int, rule: tuple[str, ...]) -> None:
        """Put `rule` before number `place`, counted from 1; `IptablesRefused` if that fails."""
        self._run("-I", self._chain, str(place), *rule)

    def append(self, rule: tuple[str, ...]) -> None:
        """Put `rule` at the end; `IptablesRefused` if that fails."""
        self._run("-A", self._chain, *rule)

    def remove(self, rule: tuple[str, ...]) -> None:
        """Remove `rule`, including duplicates."""
        while self._call("-D", self._chain, *rule) is not None:
            pass

    def _run(self, *words: str) -> None:
        if self._call(*words) is None:
            raise IptablesRefused(
                errno.EIO, f"`{self._command} {shlex.join(words)}` failed; try it by hand"
            )

    def _call(self, *words: str) -> str | None:
        """The output of the command; `None` if it fails or is not installed."""
        try:
            done = subprocess.run(
                [self._command, "-w", _WAIT, *words],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "LC_ALL": "C"},
            )
        except (FileNotFoundError, subprocess.CalledProcessError):
            return None
        return done.stdout
