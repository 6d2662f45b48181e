"""This program's table as a whole: whether its rules are as they should be, and all of it anew."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

from handlers.context import Context
from handlers.firewall import egress, elements, listed, lists, opened_elements, rejecting, ruleset
from handlers.firewall.admin import AdminRules
from handlers.firewall.listed import NOTE
from handlers.firewall.lists import Lists
from handlers.firewall.members import Members
from handlers.firewall.opened import Opened
from handlers.firewall.ruleset import OLD_TABLE, TABLE, Parts
from handlers.kernel.nft import Element, Nft, commands


class Table:
    """See the module's docstring.

    Args:
        nft: the firewall.
        context: the networks, notes and settings.
        lists: the numbers of lists, and those that are in the table.
        admin: the administrator's own rules.
        members: what other hosts have.
        opened: what names have opened.

    Attributes:
        made: whether it was there once; if it goes, that is heard of.
        blocks: the rules that are there only if they are needed, as far as this process knows.
    """

    def __init__(
        self,
        nft: Nft,
        context: Context,
        lists: Lists,
        admin: AdminRules,
        members: Members,
        opened: Opened,
    ) -> None:
        self._nft = nft
        self._netlink = context.netlink
        self._drivers = context.drivers
        self._notes = context.notes
        self._mark = context.firewall.mark
        self._log_group = rejecting.group(context.firewall.log_group)
        self._port = context.cluster.port
        self._lists = lists
        self._admin = admin
        self._members = members
        self._opened = opened
        self.made = False
        self.blocks: Set[str] = frozenset()

    def is_missing(self) -> bool:
        """Whether it has to be made: it is not there, and was not there before."""
        return not self.made and self._nft.listing(*TABLE) is None

    def is_old(self) -> bool:
        """Whether the table of an earlier version is there (:mod:`.old_tables`)."""
        return self._nft.listing(*OLD_TABLE) is not None

    def listing(self) -> list[dict[str, Any]] | None:
        """What there is of it; what names have opened only if that is known to be little."""
        if self._opened.few:
            listing = self._nft.listing(*TABLE)
        else:
            listing = self._nft.listing_without(*TABLE, opened_elements.NAMES)
        self.blocks = listed.blocks(listing or ())
        return listing

    def is_right(self, listing: list[dict[str, Any]], needed: Set[str]) -> bool:
        """Whether all rules of `listing` are as they should be, with those that are `needed`."""
        if not needed <= self.blocks:
            return False
        return self._digest(listing, self.blocks) == self._notes.noted(NOTE)

    def rebuild(self, wanted: Iterable[Element]) -> None:
        """Make it with all of `wanted` in one transaction; connections continue."""
        still = egress.while_closed(self._netlink, self._drivers.values())
        wanted = list(dict.fromkeys((*wanted, *still)))
        blocks = self.blocks = elements.blocks(wanted)
        parts = self._parts(blocks)
        text = ruleset.base(self._drivers.values(), parts)
        old = f"destroy table {' '.join(OLD_TABLE)}\n"
        if blocks or self._lists.there or self._notes.noted(lists.NOTE) is not None:
            self._lists.take_away()
        if egress.BLOCK in blocks:
            self._opened.read()
            text += self._opened.commands()
        counts = rejecting.carried(self._nft, wanted)
        members = self._members.all()
        self._nft.run(text + commands("add", (*wanted, *members, *counts)) + old)
        self._notes.note(NOTE, self._digest(self._nft.listing(*TABLE), blocks))
        self._lists.added(wanted)
        self.made = True

    def remove(self) -> list[str]:
        """Delete it, and that of earlier versions; returns what was deleted, in words."""
        there = [t for t in (TABLE, OLD_TABLE) if self._nft.listing(*t) is not None]
        if there:
            self._nft.run("".join(f"destroy table {f} {t}\n" for f, t in there))
        self.made = False
        self._notes.erase(NOTE)
        return [f"removed table {family} {table}" for family, table in there]

    def _digest(self, listing: list[dict[str, Any]] | None, blocks: Set[str]) -> str:
        return listed.digest(listing or [], self._drivers, self._parts(blocks))

    def _parts(self, blocks: Set[str]) -> Parts:
        return Parts(blocks, self._mark, self._log_group, self._admin.text, self._port)
