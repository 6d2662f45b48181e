"""Docker's firewall: its FORWARD chain has the policy `drop`; DOCKER-USER is for other rules.

Source: "Packet filtering and firewalls" in Docker's manual.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from handlers.firewall.iptables import HOST_ENDS, MARK, Iptables

if TYPE_CHECKING:
    from watcher.model.network import Network

CHAIN: Final = "DOCKER-USER"
"""Docker jumps to this chain before its own rules, and does not change it."""


class DockerUser:
    """Rules in DOCKER-USER of one family that accept all packets from or to a bridge.

    They come after the rules of others, which therefore decide first, and before the final `RETURN`
    of some versions of Docker. `command` is `iptables` or `ip6tables`.
    """

    def __init__(self, command: str) -> None:
        self._iptables = Iptables(command, CHAIN)
        self.name = self._iptables.name

    def links(self, network: Network) -> tuple[str, ...]:
        """The bridge, or all host ends if they are on none."""
        return (network.bridge if network.facts.on_link else HOST_ENDS,)

    def runs(self) -> bool:
        """Whether the chain exists."""
        return self._iptables.listing() is not None

    def lacks(self, link: str) -> bool:
        """Whether a rule for `link` is missing."""
        return not all(map(self._iptables.has, _rules(link)))

    def admit(self, link: str) -> None:
        """Add the missing rules for `link`; `IptablesRefused` if that fails."""
        for rule in _rules(link):
            if self._iptables.has(rule):
                continue
            others = [shlex.split(line) for line in (self._iptables.listing() or "").splitlines()]
            rules = [words[2:] for words in others if words[:1] == ["-A"]]
            if rules[-1:] == [_RETURN]:
                self._iptables.insert(len(rules), rule)
            else:
                self._iptables.append(rule)

    def dismiss(self, link: str) -> None:
        """Remove all rules for `link`, including duplicates."""
        for rule in _rules(link):
            self._iptables.remove(rule)


_RETURN: Final = ["-j", "RETURN"]


def _rules(link: str) -> list[tuple[str, ...]]:
    return [(option, link, *MARK, "-j", "ACCEPT") for option in ("-i", "-o")]
