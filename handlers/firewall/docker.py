"""Docker's firewall: its FORWARD chain has the policy `drop`; DOCKER-USER is for other rules.

Rules are made with the iptables command, as Docker does, so they are in the configured backend.
Source: "Packet filtering and firewalls" in Docker's manual; iptables(8).
"""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
from typing import Final

CHAIN: Final = "DOCKER-USER"
"""Docker jumps to this chain before its own rules, and does not change it."""

_MARK: Final = ("-m", "comment", "--comment", "watcher")
"""The comment that marks this program's rules."""

_WAIT: Final = "2"
"""Seconds to wait for the lock of iptables."""


class IptablesRefused(OSError):
    """The iptables command failed."""


class DockerUser:
    """Rules in DOCKER-USER of one family that accept all packets from or to a bridge.

    They come after the rules of others, which therefore decide first, and before the final `RETURN`
    of some versions of Docker. `command` is `iptables` or `ip6tables`.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self.name = f"{CHAIN} of {command}"

    def runs(self) -> bool:
        """Whether the chain exists."""
        return self._call("-S", CHAIN) is not None

    def lacks(self, bridge: str) -> bool:
        """Whether a rule for `bridge` is missing."""
        return any(self._call("-C", CHAIN, *rule) is None for rule in _rules(bridge))

    def admit(self, bridge: str) -> None:
        """Add the missing rules for `bridge`; `IptablesRefused` if that fails."""
        for rule in _rules(bridge):
            if self._call("-C", CHAIN, *rule) is not None:
                continue
            others = [shlex.split(line) for line in (self._call("-S", CHAIN) or "").splitlines()]
            rules = [words[2:] for words in others if words[:1] == ["-A"]]
            place = ("-I", CHAIN, str(len(rules))) if rules[-1:] == [_RETURN] else ("-A", CHAIN)
            self._run(*place, *rule)

    def dismiss(self, bridge: str) -> None:
        """Remove all rules for `bridge`, including duplicates."""
        for rule in _rules(bridge):
            while self._call("-D", CHAIN, *rule) is not None:
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


_RETURN: Final = ["-j", "RETURN"]


def _rules(bridge: str) -> list[tuple[str, ...]]:
    return [(option, bridge, *_MARK, "-j", "ACCEPT") for option in ("-i", "-o")]
