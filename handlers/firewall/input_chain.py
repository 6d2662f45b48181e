"""The chain INPUT of iptables, as ufw and others have it drop what they do not know.

The questions of containers are for the host itself, so they pass it. This program's own table lets
nobody but a network's own sandboxes through to its gateway (:mod:`handlers.firewall.names`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.firewall.iptables import HOST_ENDS, MARK, Iptables
from watcher.model.names import PORT

if TYPE_CHECKING:
    from watcher.model.network import Network

EMPTY: Final = ["-P INPUT ACCEPT"]
"""What is listed of a chain that drops nothing."""


class InputChain:
    """Rules in INPUT of one IP `version` that accept questions to the name service from a link.

    They are the first ones, as an earlier one may reject all else. `command` is `iptables` or
    `ip6tables`.
    """

    def __init__(self, command: str, version: int) -> None:
        self._iptables = Iptables(command, "INPUT")
        self._version = version
        self.name = self._iptables.name

    def links(self, network: Network) -> tuple[str, ...]:
        """The links that questions come by."""
        if not network.named or network.subnet_of(self._version) is None:
            return ()
        return (network.bridge if network.facts.on_link else HOST_ENDS,)

    def runs(self) -> bool:
        """Whether the chain may drop anything."""
        return (self._iptables.of_others() or EMPTY) != EMPTY

    def lacks(self, link: str) -> bool:
        """Whether a rule for `link` is missing."""
        return not all(map(self._iptables.has, _rules(link)))

    def admit(self, link: str) -> None:
        """Add the missing rules for `link`; `IptablesRefused` if that fails."""
        for rule in _rules(link):
            if not self._iptables.has(rule):
                self._iptables.insert(1, rule)

    def dismiss(self, link: str) -> None:
        """Remove all rules for `link`, including duplicates."""
        for rule in _rules(link):
            self._iptables.remove(rule)


def _rules(link: str) -> list[tuple[str, ...]]:
    return [
        ("-i", link, "-p", protocol, "-m", protocol, "--dport", str(PORT), *MARK, "-j", "ACCEPT")
        for protocol in ("udp", "tcp")
    ]
