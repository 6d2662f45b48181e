"""The firewall: this program's nftables table, as it should be for all sandboxes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from handlers.context import Context
from handlers.firewall import elements, listed, lists, rejecting
from handlers.firewall.admin import AdminRules
from handlers.firewall.egress import Group
from handlers.firewall.elements import Held
from handlers.firewall.lists import Lists, Recorder
from handlers.firewall.members import Members
from handlers.firewall.opened import Opened
from handlers.firewall.ruleset import TABLE
from handlers.firewall.table import Table
from handlers.handler import Difference, Handler, Numbers, apply
from handlers.kernel.nft import Element, Nft, NftError, NotThere, commands
from watcher.model.cluster import ClusterChange
from watcher.model.errors import UsageError, WatcherError
from watcher.model.network import Network, versions_of
from watcher.model.policy.opening import Opening
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox


class FirewallHandler(Handler):
    """Owns the tables named `watcher`: port maps, masquerade and the forward policy."""

    def __init__(self, context: Context) -> None:
        self._nft = Nft()
        self._drivers = context.drivers
        self._lists = Lists(context.numbers, context.notes)
        run_dir = os.path.dirname(context.copies_dir)  # noqa: PTH120
        self.admin = AdminRules(self._nft, context.notes, context.firewall.rules, run_dir)
        """The administrator's own rules."""
        self._sandboxes = context.sandboxes
        self._members = Members(context.cluster, context.drivers)
        self._surplus = False
        """Whether the last sync has found more lists or rules than are needed."""
        self._looked_at = 0
        """How many shared elements there were when :meth:`rest` last looked at them."""
        self.opened = Opened(
            self._nft, context.numbers, self._versions, lambda: context.notes.noted(lists.NOTE)
        )
        self._table = Table(self._nft, context, self._lists, self.admin, self._members, self.opened)

    def appear(self, sandbox: Sandbox) -> None:
        """Add the elements of `sandbox`, if any, in one transaction; make a missing table."""
        if not sandbox.interfaces:
            return
        held = elements.held(sandbox, self._drivers)
        if held.judged:
            self._lists.refresh()
        shared = self._missing_shared([held])
        own = elements.of_sandbox(sandbox, held, self._drivers, self._lists)
        wanted = own | shared
        try:
            self._add(wanted, shared)
        except NftError:
            # An element with another value is in the way, left behind by a killed predecessor, or
            # a range of the same sandbox that this one extends.
            if shared:
                self._table.rebuild((*self._of_all(), *wanted))
                return
            beside = self._overlapping(own)
            self._nft.run(commands("destroy", (*own, *beside)) + commands("add", own))

    def appear_all(self, sandboxes: Mapping[int, Sandbox]) -> dict[int, WatcherError | OSError]:
        """Add the elements of all `sandboxes` in one transaction; if it fails, those of each."""
        if len(sandboxes) < 2:
            return super().appear_all(sandboxes)
        self._lists.refresh()
        each = [(sandbox, elements.held(sandbox, self._drivers)) for sandbox in sandboxes.values()]
        shared = self._missing_shared(held for _, held in each)
        wanted = set(shared)
        for sandbox, held in each:
            wanted.update(elements.of_sandbox(sandbox, held, self._drivers, self._lists))
        try:
            self._add(sorted(wanted), shared)
        except NftError:
            return super().appear_all(sandboxes)
        return {}

    def _add(self, wanted: Collection[Element], shared: Iterable[Element]) -> None:
        """Add elements, to all that there should be if the table is missing.

        `shared` has those of them that other sandboxes may need as well.
        """
        try:
            if wanted:
                self._nft.run(commands("add", wanted))
            elif self._table.is_missing():
                self._table.rebuild(self._of_all())
        except NotThere:
            self._table.rebuild((*self._of_all(), *wanted))
            return
        self._lists.added(shared)
        self._table.made = True

    def open(self, openings: Iterable[Opening]) -> list[Opening]:
        """Open what names lead to, in one transaction, as :meth:`Opened.open` says."""
        return self.opened.open(openings, lambda: self._table.rebuild(self._of_all()))

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:
        """Remove the elements that are no longer needed, in one transaction."""
        there = self._of(before)
        wanted = {} if after is None else self._of(after)
        gone = [e for e in there if e not in wanted]
        # A range that becomes shorter is replaced.
        more = [e for e in wanted if e not in there]
        if gone or more:
            text = commands("destroy", (*gone, *rejecting.counted(gone))) + commands("add", more)
            try:
                self._nft.run(text)
            except NotThere:  # the table is gone, and so are its elements
                return

    def meet(self, change: ClusterChange) -> None:
        """Change the elements that are other hosts' blocks and addresses, in one transaction.

        Raises:
            NftError: nftables refused.
        """
        text = self._members.meet(change)
        if not text:
            return
        try:
            self._nft.run(text)
        except NotThere:
            self.replace()
        except NftError:  # another process has changed some of them since
            self._nft.run(self._members.anew())

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make the tables hold the rules and exactly the elements of `sandboxes`.

        The administrator's rules are read again; if they are broken, those before stay.
        """
        self._lists.refresh()
        failed = []
        try:
            self.use_rules(self.admin.path, self._networks(), tried=not dry_run)
        except UsageError as error:
            what = f"took the rules of {self.admin.path}"
            failed.append(Repair(what, "", "they were changed", error=str(error)))
        repairs = failed + apply(self._differences(sandboxes), dry_run=dry_run)
        if not dry_run and not repairs and self._surplus:
            recorder = Recorder(self._lists)
            self._collect(self._of_all(recorder), recorder)
        return repairs

    def read_ahead(self) -> None:
        """Read what the next change of elements needs, while nobody waits for that."""
        self._nft.read_ahead(_NOTHING)

    def is_due(self, *, idle: bool) -> bool:
        """Whether :meth:`rest` may have something to do; unless `idle`, very much."""
        few = 2 * self._looked_at + (lists.LEAST if idle else 25 * lists.LEAST)
        return self._lists.weight > few

    def rest(self) -> None:
        """Remove the lists that nobody is held to, if they are many.

        Raises:
            NftError: nftables refused.
        """
        recorder = Recorder(self._lists)
        wanted = self._of_all(recorder)
        needed = len([e for e in wanted if e.name in elements.SHARED]) + len(recorder.documents)
        self._looked_at = self._lists.weight
        if lists.outweighs(self._lists.weight - needed, needed):
            self._collect(wanted, recorder)

    def _collect(self, wanted: Iterable[Element], recorder: Recorder) -> None:
        """Make the table of all that is `wanted`, and forget the numbers that `recorder` lacks."""
        self._table.rebuild(wanted)
        self._looked_at = 0
        self._lists.keep_only(recorder.documents)

    def rejected(self) -> dict[str, dict[str, int]]:
        """By direction and address of a sandbox, how many packets were rejected.

        An address is there once something of its sandbox was rejected.
        """
        blocks = self._table.blocks
        return rejecting.counts(self._nft, [d for d in rejecting.DIRECTIONS if d in blocks])

    def use_rules(self, path: str, networks: Iterable[Network], *, tried: bool = True) -> None:
        """Have the administrator's rules of the file `path` in force from the next sync on.

        Raises:
            UsageError: they are broken; what was in force stays so.
        """
        self.admin.take(path, self.admin.read(path, networks, tried=tried))

    def _networks(self) -> list[Network]:
        return [driver.network for driver in self._drivers.values()]

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Delete the table, and that of earlier versions."""
        removed = self._table.remove()
        self.opened.clear()
        self.admin.forget()
        return removed

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        self._surplus = False
        wanted = self._of_each(sandboxes, self._lists)
        lives = {lists.group(element) for element in wanted if element.name in elements.SHARED}
        if self._table.is_old():
            return  # see :mod:`handlers.firewall.old_tables`
        listing = self._table.listing()
        members = self._members.all()
        if listing is None and not members and not any(s.interfaces for s in sandboxes):
            return
        needed = elements.blocks(wanted)
        if listing is None or not self._table.is_right(listing, needed):
            yield Difference(
                Repair(
                    "made the nftables table", "", "rules were missing or not as they should be"
                ),
                lambda: self._table.rebuild(wanted),
            )
            return
        if text := self.opened.missing(listing):
            yield Difference(
                Repair("opened addresses again", "", "they were missing"),
                lambda: self._nft.run(text),
            )
        if set(listed.members_in(listing)) != members.keys():
            yield Difference(
                Repair("put right what other hosts have", "", "it was not as it should be"),
                lambda: self._nft.run(self._members.anew()),
            )
        there = set(listed.elements_in(listing))
        missing = [element for element in wanted if element not in there]
        # Lists that nobody is held to do no harm (:mod:`handlers.firewall.lists`), nor do networks
        # that are closed still.
        left = {e for e in there if e.name in elements.SHARED and lists.group(e) not in lives}
        surplus = sorted(there - wanted.keys() - left)
        self._surplus = needed < self._table.blocks or lists.outweighs(len(left), len(wanted))
        if not self._lists.there and not missing:
            self._lists.added(e for e in wanted if e.name in elements.SHARED)
        if missing or surplus:
            # One transaction. Removals come first, because a map has one value per key.
            text = commands("destroy", surplus) + commands("add", missing)
            todo = iter([lambda: self._change(text, surplus)])
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

    def _change(self, text: str, surplus: Iterable[Element]) -> None:
        """Carry out the commands of a sync, which remove `surplus`."""
        if any(element.name in elements.SHARED for element in surplus):
            self._lists.take_away()
        self._nft.run(text)

    def _versions(self) -> list[int]:
        return versions_of(self._networks())

    def _of_all(self, numbers: Numbers | None = None) -> dict[Element, str]:
        """:meth:`_of_each` for all sandboxes."""
        return self._of_each(self._sandboxes(), self._lists if numbers is None else numbers)

    def _of_each(self, sandboxes: Iterable[Sandbox], numbers: Numbers) -> dict[Element, str]:
        """The elements of `sandboxes`, each with the id of one that needs it."""
        wanted: dict[Element, str] = {}
        done: set[Group] = set()
        for sandbox in sandboxes:
            held = elements.held(sandbox, self._drivers)
            shared = elements.shared(held, self._drivers, numbers, done)
            done.update(map(lists.group, shared))
            own = elements.of_sandbox(sandbox, held, self._drivers, numbers)
            wanted |= dict.fromkeys(own | shared, sandbox.id)
        return wanted

    def _of(self, sandbox: Sandbox) -> dict[Element, None]:
        held = elements.held(sandbox, self._drivers)
        return elements.of_sandbox(sandbox, held, self._drivers, self._lists)

    def _missing_shared(self, each: Iterable[Held]) -> dict[Element, None]:
        """The shared elements that may be missing, of sandboxes that are held so."""
        groups, wanted = lists.Groups(self._lists.there), dict[Element, None]()
        for held in each:
            shared = elements.shared(held, self._drivers, self._lists, groups)
            if shared:
                groups.more.update(map(lists.group, shared))
                wanted |= shared
        return wanted

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

    def replace(self) -> None:
        """Make the table anew, for all sandboxes."""
        self._table.rebuild(self._of_all())


_NOTHING: Final = 'destroy element inet watcher bridges { "lo" }\n'
"""A command that changes nothing, as `lo` is no bridge."""


def _nothing() -> None:
    """The close of a difference that the first difference's transaction closed."""
