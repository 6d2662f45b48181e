"""Other firewalls of the host: they let our bridges' traffic pass if `firewall.integrate` is set.

Each gets its own kind of rule, once per link. Each addition is noted, so that `watcher down`
removes it and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from handlers.context import Context
from handlers.firewall.docker import DockerUser
from handlers.firewall.firewalld import FirewalldSources, FirewalldTunnel
from handlers.firewall.input_chain import InputChain
from handlers.firewall.tunnel_input import TunnelInput
from handlers.handler import Difference, Handler, apply
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox

_NOTE: Final = "foreign firewalls"
"""The note of the links that each firewall admits."""


class ForeignFirewall(Protocol):
    """Another program's firewall. Failures are OSError."""

    @property
    def name(self) -> str:
        """Its name in messages and notes."""

    def runs(self) -> bool:
        """Whether it runs on this host."""

    def links(self, network: Network) -> tuple[str, ...]:
        """The links of the managed `network` that it has to admit."""

    def lacks(self, link: str) -> bool:
        """Whether it does not admit `link` yet."""

    def admit(self, link: str) -> None:
        """Make it accept packets from and to `link`."""

    def dismiss(self, link: str) -> None:
        """Undo `admit`, even if the firewall does not run; no error if that is done already."""


class ForeignFirewallHandler(Handler):
    """Owns the rules for managed bridges in other firewalls; they stay as long as the bridge.

    If `firewall.integrate` is off, it only removes them.
    """

    def __init__(self, context: Context) -> None:
        self._drivers = context.drivers
        self._notes = context.notes
        self._enabled = context.firewall.integrate
        self._firewalls: tuple[ForeignFirewall, ...] = (
            DockerUser("iptables"),
            DockerUser("ip6tables"),
            FirewalldSources(),
            FirewalldTunnel(context.cluster.port),
            InputChain("iptables", 4),
            InputChain("ip6tables", 6),
            TunnelInput("iptables", context.cluster.port),
            TunnelInput("ip6tables", context.cluster.port),
        )
        self._admitted: set[Network] = set()
        """The networks whose links all firewalls are known to admit."""

    @property
    def can_appear(self) -> bool:
        """Only if other firewalls are to admit links."""
        return self._enabled

    def appear(self, sandbox: Sandbox) -> None:
        """Admit the links of `sandbox`; only a network's first sandbox starts processes."""
        for network in self._networks([sandbox]):
            if network not in self._admitted:
                apply(self._missing([network]), dry_run=False)
                self._admitted.add(network)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Admit links that were forgotten, and dismiss those that are no longer ours."""
        repairs = apply(self._surplus(), dry_run=dry_run)
        if self._enabled:
            networks = self._networks(sandboxes)
            repairs += apply(self._missing(networks), dry_run=dry_run)
            if not dry_run:
                self._admitted.update(networks)
        return repairs

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Dismiss all admitted links; returns a line for each."""
        self._admitted.clear()
        told = self._told()
        for firewall in self._firewalls:
            for link in told.get(firewall.name, []):
                self._dismiss(firewall, link)
        return [f"removed {link} from {name}" for name, all_ in told.items() for link in all_]

    def _networks(self, sandboxes: Iterable[Sandbox]) -> list[Network]:
        """The managed networks that `sandboxes` use."""
        used = {interface.network for sandbox in sandboxes for interface in sandbox.interfaces}
        networks = [self._drivers[name].network for name in sorted(used)]
        return [network for network in networks if network.managed]

    def _missing(self, networks: Sequence[Network]) -> Iterator[Difference]:
        for firewall in self._firewalls:
            links = sorted({link for network in networks for link in firewall.links(network)})
            if not links or not firewall.runs():
                continue
            for link in links:
                if firewall.lacks(link):
                    yield Difference(
                        Repair(f"added {link} to {firewall.name}", "", "it drops the traffic"),
                        lambda f=firewall, b=link: self._admit(f, b),  # type: ignore[misc]
                    )

    def _surplus(self) -> Iterator[Difference]:
        networks = [d.network for d in self._drivers.values() if d.network.managed]
        why = "no network of ours needs it any more" if self._enabled else "integrate = false"
        for firewall in self._firewalls:
            ours = {link for network in networks for link in firewall.links(network)}
            for link in self._told().get(firewall.name, []):
                if not self._enabled or link not in ours:
                    yield Difference(
                        Repair(f"removed {link} from {firewall.name}", "", why),
                        lambda f=firewall, b=link: self._dismiss(f, b),  # type: ignore[misc]
                    )

    def _admit(self, firewall: ForeignFirewall, link: str) -> None:
        """Write the note first, so that an interrupted addition is removed later."""
        told = self._told()
        told[firewall.name] = sorted({*told.get(firewall.name, []), link})
        self._note(told)
        firewall.admit(link)

    def _dismiss(self, firewall: ForeignFirewall, link: str) -> None:
        firewall.dismiss(link)
        told = self._told()
        told[firewall.name] = [other for other in told.get(firewall.name, []) if other != link]
        self._note({name: links for name, links in told.items() if links})

    def _told(self) -> dict[str, list[str]]:
        text = self._notes.noted(_NOTE)
        return {} if text is None else msgspec.json.decode(text, type=dict[str, list[str]])

    def _note(self, told: dict[str, list[str]]) -> None:
        if told:
            self._notes.note(_NOTE, msgspec.json.encode(told).decode())
        else:
            self._notes.erase(_NOTE)
