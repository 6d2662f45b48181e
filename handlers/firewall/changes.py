"""Carries out changes of elements, by the shortest way."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import TYPE_CHECKING

from handlers.firewall import connections, egress, ingress, ruleset
from handlers.kernel import nft_elements
from handlers.kernel.nft import Element, Nft, NftError, NotThere, commands
from handlers.kernel.nft_elements import Types

if TYPE_CHECKING:
    from handlers.kernel.netlink import Netlink

type Step = tuple[str, Collection[Element]]
"""What to do (`add`, `destroy`) to which elements."""


class Changes:
    """Adds and removes elements of this program's table.

    Args:
        nft: the firewall.
        netfilter: a socket of NETLINK_NETFILTER, by which elements of hashes change in a quarter of
            the time; `None` if the kernel has none.
    """

    def __init__(self, nft: Nft, netfilter: Netlink | None) -> None:
        self._nft = nft
        self._netfilter = netfilter

    def run(self, *steps: Step) -> None:
        """Carry out `steps` as one transaction.

        Raises:
            NotThere: the table, or a set or map of it, is missing.
            NftError: nftables refused for another reason.
        """
        if self._netfilter is not None and (messages := _messages(steps)) is not None:
            try:
                nft_elements.carry_out(self._netfilter, messages)
            except NotThere:
                raise
            except NftError:
                pass  # libnftables says better what is wrong
            else:
                return
        self._nft.run("".join(commands(verb, elements) for verb, elements in steps))


def _messages(steps: Collection[Step]) -> list[bytearray] | None:
    """The messages of `steps`, if all elements are of hashes, and few."""
    found: list[bytearray] = []
    for verb, elements in steps:
        some = nft_elements.encoded(verb, elements, _types())
        if some is None:
            return None
        found += some
    return found if sum(map(len, found)) <= nft_elements.MOST else None


@cache
def _types() -> dict[str, Types]:
    return nft_elements.types_in(_declarations((4, 6)))


def _declarations(versions: tuple[int, ...]) -> Iterator[str]:
    """Those of all sets and maps that sandboxes have elements in."""
    yield from ruleset.sets_of_ports(versions)
    yield from ruleset.GUESTS
    for part in (egress, ingress, connections):
        yield from part.sets(versions)
    yield from ingress.sets_of_host(versions)
