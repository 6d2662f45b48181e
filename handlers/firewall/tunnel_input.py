"""The chain INPUT of iptables, where it drops what other hosts of a cluster send in VXLAN.

This program's own table takes VXLAN of ours from these hosts alone
(:mod:`handlers.firewall.remote`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.firewall.input_chain import EMPTY
from handlers.firewall.iptables import MARK, Iptables

if TYPE_CHECKING:
    from watcher.model.network import Network


class TunnelInput:
    """A rule in INPUT that accepts datagrams to the port of VXLAN, before all others.

    `command` is `iptables` or `ip6tables`. The "link" is that port.
    """

    def __init__(self, command: str, port: int) -> None:
        self._iptables = Iptables(command, "INPUT")
        self._port = port
        self.name = f"{self._iptables.name} for VXLAN"

    def links(self, network: Network) -> tuple[str, ...]:
        """The port, if the network needs it."""
        return (f"{self._port}/udp",) if network.tunnelled else ()

    def runs(self) -> bool:
        """Whether the chain may drop anything."""
        return (self._iptables.of_others() or EMPTY) != EMPTY

    def lacks(self, link: str) -> bool:
        """Whether the rule is missing."""
        return not self._iptables.has(_rule(link))

    def admit(self, link: str) -> None:
        """Add the rule; `IptablesRefused` if that fails."""
        self._iptables.insert(1, _rule(link))

    def dismiss(self, link: str) -> None:
        """Remove the rule, including duplicates."""
        self._iptables.remove(_rule(link))


def _rule(link: str) -> tuple[str, ...]:
    port, _, protocol = link.partition("/")
    return ("-p", protocol, "-m", protocol, "--dport", port, *MARK, "-j", "ACCEPT")
