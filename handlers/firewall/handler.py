"""The firewall: this program's nftables table, as it should be for all sandboxes."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from handlers.context import Context
from handlers.firewall import elements, listed, rejecting, ruleset
from handlers.firewall.listed import NOTE
from handlers.firewall.ruleset import OLD_TABLE, TABLE
from handlers.guard import link as guard
from handlers.handler import Difference, Handler, apply
from handlers.kernel.netlink import NETLINK_NETFILTER, Netlink
from handlers.kernel.nft import Element, Nft, NftError, NotThere, commands
from watcher.model.errors import WatcherError
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox


class FirewallHandler(Handler):
    """Owns the tables named `watcher`: port maps, masquerade and the forward policy."""

    def __init__(self, context: Context) -> None:
        self._nft = Nft()
        self._netlink = context.netlink
        self._made = False
        """Whether the table was there once; if it goes, that is heard of."""
        self._drivers = context.drivers
        self._notes = context.notes
        self._numbers = context.numbers
        self._mark = context.firewall.mark
        self._log_group = rejecting.group(context.firewall.log_group)
        self._sandboxes = context.sandboxes
        self._shared: set[Element] = set()
        """The shared elements that are there, as far as this process knows."""

    def appear(self, sandbox: Sandbox) -> None:
        """Add the elements of `sandbox`, if any, in one transaction; make a missing table."""
        if not sandbox.interfaces:
            return
        wanted = self._of(sandbox) | self._shared_by(sandbox)
        try:
            self._add(wanted)
        except NftError:
            # An element with another value is in the way, left behind by a killed predecessor, or
            # a range of the same sandbox that this one extends.
            beside = self._overlapping(wanted)
            self._nft.run(commands("destroy", (*wanted, *beside)) + commands("add", wanted))

    def appear_all(self, sandboxes: Mapping[int, Sandbox]) -> dict[int, WatcherError | OSError]:
        """Add the elements of all `sandboxes` in one transaction; if it fails, those of each."""
        if len(sandboxes) < 2:
            return super().appear_all(sandboxes)
        wanted: dict[Element, None] = {}
        for sandbox in sandboxes.values():
            wanted |= self._of(sandbox) | self._shared_by(sandbox)
        try:
            self._add(dict.fromkeys(sorted(wanted)))
        except NftError:
            return super().appear_all(sandboxes)
        return {}

    def _add(self, wanted: Mapping[Element, None]) -> None:
        """Add elements, to all that there should be if the table is missing."""
        try:
            if wanted:
                self._nft.run(commands("add", wanted))
            elif not self._made and self._nft.listing(*TABLE) is None:
                self._rebuild(self._of_all())
        except NotThere:
            self._rebuild({**self._of_all(), **wanted})
        self._shared.update(e for e in wanted if e.name in elements.SHARED)
        self._made = True

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:
        """Remove the elements that are no longer needed, in one transaction."""
        there = self._of(before)
        wanted = {} if after is None else self._of(after)
        gone = [e for e in there if e not in wanted]
        text = commands("destroy", (*gone, *rejecting.counted(gone)))
        # A range that becomes shorter is replaced.
        text += commands("add", (e for e in wanted if e not in there))
        if text:
            try:
                self._nft.run(text)
            except NotThere:  # the table is gone, and so are its elements
                return

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make the tables hold the rules and exactly the elements of `sandboxes`."""
        return apply(self._differences(sandboxes), dry_run=dry_run)

    def rejected(self) -> dict[str, dict[str, int]]:
        """By direction and address of a sandbox, how many packets were rejected.

        An address is there once something of its sandbox was rejected.
        """
        with Netlink(NETLINK_NETFILTER) as netfilter:
            return rejecting.counts(netfilter)

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Delete the table, and that of earlier versions."""
        there = [t for t in (TABLE, OLD_TABLE) if self._nft.listing(*t) is not None]
        if there:
            self._nft.run("".join(f"destroy table {f} {t}\n" for f, t in there))
        self._made = False
        self._notes.erase(NOTE)
        return [f"removed table {family} {table}" for family, table in there]

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        wanted: dict[Element, str] = {}
        for sandbox in sandboxes:
            both = self._of(sandbox) | self._all_shared_by(sandbox)
            wanted |= dict.fromkeys(both, sandbox.id)
        if self._nft.listing(*OLD_TABLE) is not None:
            yield Difference(
                Repair("made the nftables table", "", "those of an earlier version were there"),
                lambda: self._replace_old(sandboxes, wanted),
                alone=True,
            )
            return
        listing = self._nft.listing(*TABLE)
        if listing is None and not any(sandbox.interfaces for sandbox in sandboxes):
            return
        blocks = elements.blocks(wanted)
        if listing is None or self._digest(listing, blocks) != self._notes.noted(NOTE):
            yield Difference(
                Repair(
                    "made the nftables table", "", "rules were missing or not as they should be"
                ),
                lambda: self._rebuild(wanted),
            )
            return
        there = set(listed.elements_in(listing))
        missing = [element for element in wanted if element not in there]
        surplus = sorted(there - wanted.keys())
        if missing or surplus:
            # One transaction. Removals come first, because a map has one value per key.
            text = commands("destroy", surplus) + commands("add", missing)
            todo = iter([lambda: self._nft.run(text)])
            for what, which, why in (
                ("added", missing, "it was missing"),
                ("removed", surplus, "no sandbox has it"),
            ):
                for element in which:
                    yield Difference(
                        Repair(
                            f"{what} {element.name} {' '.join(element.key)}",
                            wanted.get(element, ""),
                            why,
                        ),
                        next(todo, _nothing),
                    )

    def _of_all(self) -> dict[Element, None]:
        """The elements of all sandboxes."""
        wanted: dict[Element, None] = {}
        for sandbox in self._sandboxes():
            wanted |= self._of(sandbox) | self._all_shared_by(sandbox)
        return wanted

    def _of(self, sandbox: Sandbox) -> dict[Element, None]:
        return elements.of_sandbox(sandbox, self._drivers, self._numbers)

    def _all_shared_by(self, sandbox: Sandbox) -> dict[Element, None]:
        return elements.shared(sandbox, self._drivers, self._numbers)

    def _shared_by(self, sandbox: Sandbox) -> dict[Element, None]:
        """Those shared elements of `sandbox` that may be missing."""
        wanted = self._all_shared_by(sandbox)
        return {element: None for element in wanted if element not in self._shared}

    def _overlapping(self, wanted: Iterable[Element]) -> list[Element]:
        """The present ranges that overlap one of `wanted`."""
        ranges = [element for element in wanted if element.name in elements.RANGES]
        if not ranges:
            return []
        there = listed.elements_in(self._nft.listing(*TABLE) or [])
        return [
            element
            for element in there
            if element.name in elements.RANGES
            and any(elements.overlapping(element, other) for other in ranges)
        ]

    def _replace_old(self, sandboxes: Sequence[Sandbox], wanted: Iterable[Element]) -> None:
        """Replace the tables of an earlier version, whose rules are the guard, by today's.

        Raises:
            OSError: a link has no other guard yet; then the old ones stay.
        """
        for sandbox in sandboxes:
            for interface in sandbox.interfaces:
                facts = self._drivers[interface.network].guarded(interface)
                index = self._netlink.index(interface.host_name)
                if facts is not None and index and guard.wrong(self._netlink, index, facts):
                    raise OSError(
                        errno.EBUSY,
                        f"{interface.host_name} is not guarded by a program on it; until all are,"
                        " the tables of the earlier version stay",
                    )
        self._rebuild(wanted)

    def _rebuild(self, wanted: Iterable[Element]) -> None:
        """Make the table and all of `wanted` in one transaction; connections continue."""
        wanted = list(wanted)
        blocks = elements.blocks(wanted)
        text = ruleset.base(self._drivers.values(), blocks, self._mark, self._log_group)
        old = f"destroy table {' '.join(OLD_TABLE)}\n"
        with Netlink(NETLINK_NETFILTER) as netfilter:
            counts = rejecting.carried(netfilter, wanted)
        self._nft.run(text + commands("add", (*wanted, *counts)) + old)
        self._notes.note(NOTE, self._digest(self._nft.listing(*TABLE), blocks))
        self._shared = {element for element in wanted if element.name in elements.SHARED}
        self._made = True

    def _digest(self, listing: list[dict[str, Any]] | None, blocks: Set[str]) -> str:
        return listed.digest(listing or [], self._drivers, blocks, self._mark, self._log_group)


def _nothing() -> None:
    """The close of a difference that the first difference's transaction closed."""
