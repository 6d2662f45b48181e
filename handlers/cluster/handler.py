"""Routes to the blocks of other hosts, made, repaired, removed."""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final

from handlers.cluster import comparing, devices
from handlers.cluster.comparing import Step
from handlers.cluster.looking import Known, Looker, indices
from handlers.cluster.plan import NO_CHANGE, Delta
from handlers.cluster.sending import carry_out
from handlers.cluster.suspects import Suspects
from handlers.context import Context
from handlers.handler import Handler, apply
from handlers.kernel import rtnl
from handlers.kernel.uplink import underlay_mtu
from handlers.networks.clustered import ClusteredDriver
from watcher.model.address import Address
from watcher.model.cluster import Block, ClusterChange
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox

_NOTE: Final = "routes to other hosts"
"""The note that there may be something of this kind."""

_ATTEMPTS: Final = 4
"""How often a look in steps begins; the last time, it does not pause."""


class ClusterHandler(Handler):
    """Owns the routes with our protocol, the VXLAN devices, and the host's addresses in blocks.

    What the lease store says of other hosts counts, whether they live or not.
    """

    def __init__(self, context: Context) -> None:
        self._netlink = context.netlink
        self._drivers = context.drivers
        self._cluster = context.cluster
        self._notes = context.notes
        self._looker = Looker(context)
        self.failed = False
        """Whether the last look left something that is not as it should be."""
        self._suspects = Suspects()
        """What events have contradicted since the last look."""
        self._changes = self._looks = 0
        """How often the plan was changed, and how often everything was looked at in one go."""

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:  # noqa: ARG002
        """Make the routes exactly those that the lease store needs; look how hosts are reached."""
        return self.look(dry_run=dry_run)

    def look(self, *, dry_run: bool = False) -> list[Repair]:
        """What :meth:`sync` does; it needs no sandboxes."""
        drivers = self._clustered()
        noted = self._notes.noted(_NOTE) is not None
        if not drivers and not noted:
            return []
        if not noted and not dry_run:
            self._notes.note(_NOTE, "made")
        self._looker.known, self.failed, self._suspects = None, True, Suspects()
        self._looks += 1
        steps = self._looker.differences(drivers)
        try:
            repairs = apply((step for step in steps if step is not None), dry_run=dry_run)
        finally:
            if dry_run:
                self._looker.known = None
        self.failed = any(repair.error for repair in repairs)
        if not drivers and not repairs and not dry_run:  # as after a reload
            self._notes.erase(_NOTE)
        return repairs

    def mend(self) -> Generator[None, None, list[Repair]]:
        """Put right what events have contradicted, or everything if they do not tell enough.

        It goes on in steps, between which other work may have its turn. If that changes what is
        wanted, it begins anew. The lease store has to agree with what :meth:`meet` was told: only a
        sync reads all of it again.
        """
        suspects, self._suspects = self._suspects, Suspects()
        few = suspects if suspects.few() and not self.failed else None
        done: list[Repair] = []
        looks = self._looks
        for attempt in range(_ATTEMPTS):
            if self._looker.known is None or not self._clustered():
                return done + self.look()
            changes = self._changes
            try:
                for step in self._mended(self._looker.known, few):
                    done += () if step is None else apply((step,), dry_run=False)
                    if step is None and attempt < _ATTEMPTS - 1:
                        yield
                        if looks != self._looks:
                            return done
                        if changes != self._changes:
                            few = None  # some of what events told is in the plan, but not done
                            break
                else:
                    break
            except BaseException:
                self.failed = True
                raise
        self.failed = any(repair.error for repair in done)
        return done

    def suspect_all(self) -> None:
        """Events were lost: have the next :meth:`mend` look at everything."""
        self._suspects.everything = True

    def meet(self, change: ClusterChange) -> None:
        """Send what `change` needs; everything is looked at only if all routes may be others.

        Raises:
            OSError: the kernel refused something; the rest was done.
        """
        self._changes += 1
        if self._clustered() and not (self._looker.known and self._met(self._looker.known, change)):
            failed = [repair for repair in self.look() if repair.error]
            if failed:
                raise OSError(errno.EIO, f"{failed[0].what}: {failed[0].error}")

    def is_wrong(self, kind: int, body: memoryview) -> bool:
        """Whether an event of rtnetlink, of that type, is a reason to :meth:`mend`.

        A link that is being made is not as it should be at first, so it is looked at once more.
        """
        if self._looker.known is None or self._suspects.everything:
            return self._suspects.everything
        expected = self._looker.known.expected
        if kind == rtnl.RTM_NEWLINK and expected.is_wrong_link(kind, body):
            index, _ = rtnl.read_state(body)
            now = self._netlink.get(rtnl.link_at(index))
            if now is not None and not expected.is_wrong_link(kind, now):
                return False
        return expected.hear(kind, body, self._suspects)

    @property
    def address(self) -> Address | None:
        """What the other hosts reached this one by at the last look."""
        return self._looker.own

    @property
    def links(self) -> tuple[frozenset[int], frozenset[int]]:
        """The indices of the VXLAN devices; the same and those of the links to other hosts."""
        if self._looker.known is None:
            return frozenset(), frozenset()
        return frozenset(indices(self._looker.known.plan)), self._looker.known.expected.links

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Remove all routes with our protocol, and all VXLAN devices of ours."""
        self._looker.known = None
        done = apply(comparing.without_any(self._netlink), dry_run=False)
        done += apply(devices.surplus(self._netlink, ()), dry_run=False)
        self._notes.erase(_NOTE)
        return [repair.what for repair in done]

    def _clustered(self) -> list[ClusteredDriver]:
        return [d for d in self._drivers.values() if isinstance(d, ClusteredDriver)]

    def _met(self, known: Known, change: ClusterChange) -> bool:
        """Send what `change` needs; returns false if everything has to be looked at instead."""
        plan, deltas = known.plan, []
        own = self._cluster.blocks() if change.own else ()
        if change.own and not self._is_as_before(known, own):
            return False
        found = self._looker.ways_to(peer.address for peer in change.peers)
        deltas.append(
            plan.change(change.peers, change.blocks, change.gone, change.gone_blocks, found)
        )
        if change.peers or change.gone:
            self._looker.ways = plan.ways
            if not self._looker.still_fits(known, found.values()):
                return False
            known.expected.addresses_changed()
        if change.own:
            deltas.append(plan.take_own(own))
        for delta in deltas:
            carry_out(self._netlink, delta)
        return True

    def _is_as_before(self, known: Known, blocks: Sequence[Block]) -> bool:
        """Whether the numbers and the addresses of this host are those that were known."""
        return self._looker.own_address() == known.own and all(
            local.number == self._cluster.number(name)
            and local.driver.sources(blocks) == known.sources[name]
            for name, local in known.plan.locals.items()
        )

    def _mended(self, known: Known, suspects: Suspects | None) -> Iterator[Step]:
        """What `suspects` tell; without them, or if they do not tell enough, everything."""
        told: Iterator[Step] | None = None
        if suspects is not None:
            delta: Delta | None = NO_CHANGE
            if suspects.ways:
                delta = yield from self._reached(known)
            told = comparing.suspected(self._netlink, known.plan, suspects)
            if delta is not None and told is not None:
                yield from comparing.changed(self._netlink, delta)
                yield from told
                return
        yield from self._looker.differences(self._clustered(), known.plan)

    def _reached(self, known: Known) -> Generator[None, None, Delta | None]:
        """What is different if other hosts are reached another way; `None`: perhaps everything."""
        own, plan = self._looker.own_address(), known.plan
        if own != known.own or underlay_mtu(own) != known.underlay:
            return None
        found = yield from self._looker.finding(peer.address for peer in plan.peers.values())
        delta = plan.change(plan.reached_otherwise(found), (), (), (), found)
        self._looker.ways = plan.ways
        return delta if self._looker.still_fits(known, found.values()) else None
