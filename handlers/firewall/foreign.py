"""Other firewalls of the host: they let our bridges' traffic pass if `firewall.integrate` is set.

Each gets its own kind of rule, once per bridge. Each addition is noted, so that `watcher down`
removes it and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from handlers.context import Context
from handlers.firewall.docker import DockerUser
from handlers.firewall.firewalld import Firewalld
from handlers.handler import Difference, Handler, apply
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox

_NOTE: Final = "foreign firewalls"
"""The note of the bridges that each firewall admits."""


class ForeignFirewall(Protocol):
    """Another program's firewall. Failures are OSError."""

    @property
    def name(self) -> str:
        """Its name in messages and notes."""

    def runs(self) -> bool:
        """Whether it runs on this host."""

    def lacks(self, bridge: str) -> bool:
        """Whether it does not admit `bridge` yet."""

    def admit(self, bridge: str) -> None:
        """Make it accept packets from and to `bridge`."""

    def dismiss(self, bridge: str) -> None:
        """Undo `admit`, even if the firewall does not run; no error if that is done already."""


class ForeignFirewallHandler(Handler):
    """Owns the rules for managed bridges in other firewalls; they stay as long as the bridge.

    If `firewall.integrate` is off, it only removes them.
    """

    def __init__(self, context: Context) -> None:
        self._drivers = context.drivers
        self._notes = context.notes
        self._enabled = context.integrate
        self._firewalls: tuple[ForeignFirewall, ...] = (
            DockerUser("iptables"),
            DockerUser("ip6tables"),
            Firewalld(),
        )
        self._admitted: set[str] = set()
        """The bridges that all firewalls are known to admit."""

    def appear(self, sandbox: Sandbox) -> None:
        """Admit the bridges of `sandbox`; only a bridge's first sandbox starts processes."""
        if not self._enabled:
            return
        for bridge in self._bridges([sandbox]):
            if bridge not in self._admitted:
                apply(self._missing([bridge]), dry_run=False)
                self._admitted.add(bridge)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Admit bridges that were forgotten, and dismiss those that are no longer ours."""
        repairs = apply(self._surplus(), dry_run=dry_run)
        if self._enabled:
            bridges = self._bridges(sandboxes)
            repairs += apply(self._missing(bridges), dry_run=dry_run)
            if not dry_run:
                self._admitted.update(bridges)
        return repairs

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Dismiss all admitted bridges; returns a line for each."""
        self._admitted.clear()
        told = self._told()
        for firewall in self._firewalls:
            for bridge in told.get(firewall.name, []):
                self._dismiss(firewall, bridge)
        return [f"removed {bridge} from {name}" for name, all_ in told.items() for bridge in all_]

    def _bridges(self, sandboxes: Iterable[Sandbox]) -> list[str]:
        """The managed bridges that `sandboxes` use, sorted."""
        used = {interface.network for sandbox in sandboxes for interface in sandbox.interfaces}
        networks = [self._drivers[name].network for name in used]
        return sorted(network.bridge for network in networks if network.managed)

    def _missing(self, bridges: Sequence[str]) -> Iterator[Difference]:
        if not bridges:
            return
        for firewall in self._firewalls:
            if not firewall.runs():
                continue
            for bridge in bridges:
                if firewall.lacks(bridge):
                    yield Difference(
                        Repair(f"added {bridge} to {firewall.name}", "", "it drops the traffic"),
                        lambda f=firewall, b=bridge: self._admit(f, b),  # type: ignore[misc]
                    )

    def _surplus(self) -> Iterator[Difference]:
        networks = [driver.network for driver in self._drivers.values()]
        ours = {network.bridge for network in networks if network.managed}
        why = "it is no bridge of ours any more" if self._enabled else "integrate = false"
        for firewall in self._firewalls:
            for bridge in self._told().get(firewall.name, []):
                if not self._enabled or bridge not in ours:
                    yield Difference(
                        Repair(f"removed {bridge} from {firewall.name}", "", why),
                        lambda f=firewall, b=bridge: self._dismiss(f, b),  # type: ignore[misc]
                    )

    def _admit(self, firewall: ForeignFirewall, bridge: str) -> None:
        """Write the note first, so that an interrupted addition is removed later."""
        told = self._told()
        told[firewall.name] = sorted({*told.get(firewall.name, []), bridge})
        self._note(told)
        firewall.admit(bridge)

    def _dismiss(self, firewall: ForeignFirewall, bridge: str) -> None:
        firewall.dismiss(bridge)
        told = self._told()
        told[firewall.name] = [other for other in told.get(firewall.name, []) if other != bridge]
        self._note({name: bridges for name, bridges in told.items() if bridges})

    def _told(self) -> dict[str, list[str]]:
        text = self._notes.noted(_NOTE)
        return {} if text is None else msgspec.json.decode(text, type=dict[str, list[str]])

    def _note(self, told: dict[str, list[str]]) -> None:
        if told:
            self._notes.note(_NOTE, msgspec.json.encode(told).decode())
        else:
            self._notes.erase(_NOTE)
