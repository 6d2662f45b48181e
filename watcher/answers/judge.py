"""What an answer opens, and whether it may leave. The name service is not relied upon."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.answers.protocol import MAX_TTL, MIN_TTL
from watcher.answers.rebinding import behind_nat64, is_of_host, is_of_networks, is_special
from watcher.model.policy.access import access
from watcher.model.policy.opening import Opening, profile

if TYPE_CHECKING:
    from handlers.kernel.netlink import Netlink
    from watcher.answers.protocol import Told
    from watcher.model.address import Address
    from watcher.model.policy.access import AccessList
    from watcher.model.sandbox import Sandbox
    from watcher.reconcile.context import Context

HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
"""What a name may be that opens anything."""


class Verdict(Struct, frozen=True):
    """What becomes of an answer.

    Attributes:
        sandbox: who has asked; `None` if nobody that there is.
        openings: what it opens.
        refused: why it must not leave; empty if it may.
    """

    sandbox: Sandbox | None
    openings: tuple[Opening, ...] = ()
    refused: str = ""


class _Asker(Struct, frozen=True):
    """Who has an address, and what it is held to there.

    Attributes:
        sandbox: who; `None` if nobody.
        held: the list, if it has names.
        number: that of the list.
        versions: the IP versions of its addresses there; others open nothing.
    """

    sandbox: Sandbox | None
    held: AccessList | None = None
    number: int = 0
    versions: frozenset[int] = frozenset()


_ASKERS: Final = 1024
"""The most askers to remember."""


class Judge:
    """Judges answers, by the lease store and the lists in force.

    Args:
        context: the store, and the networks.
        netlink: a socket of the host.
    """

    def __init__(self, context: Context, netlink: Netlink) -> None:
        self._context = context
        self._netlink = netlink
        self._version = (-1, -1)
        self._askers: dict[tuple[str, str], _Asker] = {}
        """Some that have asked, as the content of that version has them."""

    def sandbox(self, told: Told) -> Sandbox | None:
        """Who has asked."""
        return self._asker(told).sandbox

    def judge(self, told: Told) -> Verdict:
        """What becomes of an answer.

        Raises:
            WatcherError: the lease store cannot be read.
            OSError: the kernel does not say what addresses the host has.
        """
        asker = self._asker(told)
        sandbox, held, number = asker.sandbox, asker.held, asker.number
        if held is None:
            return Verdict(sandbox, refused="it is held to no names")
        if HOST_NAME.fullmatch(told.name) is None:
            return Verdict(sandbox, refused="it is no host name")
        if not held.asks(told.name):
            return Verdict(sandbox, refused="its list does not have that name")
        if self._context.host.firewall.opened.is_full(number, (text for text, _ in told.addresses)):
            return Verdict(sandbox, refused="many addresses are open for its list")
        openings = []
        for text, ttl in told.addresses:
            address = _address(text)
            if address is None:
                return Verdict(sandbox, refused="it has no address where there should be one")
            if address.version not in asker.versions:
                continue
            opened = profile(held.opened(told.name, address, rebinds=self._rebinds(address)))
            if opened:
                seconds = min(max(ttl, MIN_TTL), MAX_TTL)
                openings.append(Opening(number, told.name, address, opened, seconds))
        return Verdict(sandbox, tuple(openings))

    def _asker(self, told: Told) -> _Asker:
        """Who has asked, and what it is held to."""
        store = self._context.store
        if (version := store.version()) != self._version or len(self._askers) >= _ASKERS:
            self._version, self._askers = version, {}
        key = told.network, told.sender
        if (asker := self._askers.get(key)) is not None:
            return asker
        sender = _address(told.sender)
        sandbox = None if sender is None else store.sandbox_with_address(key[0], str(sender))
        held = None if sandbox is None else self._held(sandbox, told.network)
        if held is None or not held.named:
            asker = _Asker(sandbox)
        else:
            assert sandbox is not None
            addresses = (i.addresses for i in sandbox.interfaces if i.network == told.network)
            versions = frozenset(address.version for some in addresses for address in some)
            asker = _Asker(sandbox, held, store.number_of(held.document), versions)
        self._askers[key] = asker
        return asker

    def _held(self, sandbox: Sandbox, network: str) -> AccessList | None:
        networks = self._context.host.networks
        if network not in networks:
            return None
        forced = networks.get(sandbox.limits.policy)
        return access("egress", sandbox.limits, networks[network], forced)

    def _rebinds(self, address: Address) -> bool:
        """Whether no name opens `address`."""
        end = behind_nat64(address)
        return (
            is_special(end)
            or is_of_networks(end, self._context.host.networks.values())
            or is_of_host(end, self._netlink)
        )


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return None
    assert isinstance(address, IPv4Address | IPv6Address)
    return address
