"""Sync: makes everything agree with the roots, whatever happened meanwhile.

Members that have gone are detached. Containers that have a network which the lease store does not
know are put back into it. Then each handler compares its kind of thing with what should exist, and
at last the other new containers are attached. They come last because what has just been made need
not be compared. The caller has the host-wide lock.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from msgspec.structs import replace

from handlers.host import root_mounts
from watcher.containers import proc
from watcher.containers.annotations import parse_request
from watcher.containers.life import Snapshot, running
from watcher.containers.present import present
from watcher.locks.lock import Lock
from watcher.locks.names import SERVICE
from watcher.model import keys
from watcher.model.container import Container
from watcher.model.errors import WatcherError
from watcher.model.orphan import Orphan
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox
from watcher.reconcile.adopt import Inside, adopt, look_inside
from watcher.reconcile.founders import is_annotated
from watcher.reconcile.movable import shares_by_annotation
from watcher.reconcile.plan import Create, CreateFor, Ignore, Join, root_of

if TYPE_CHECKING:
    from watcher.reconcile.attach import Attachment
    from watcher.reconcile.context import Context


class Recovery:
    """Finds every difference, and repairs it."""

    def __init__(self, context: Context, attachment: Attachment) -> None:
        self._context = context
        self._attachment = attachment

    def run(self, *, dry_run: bool) -> list[Repair]:
        """Repair every difference; with `dry_run` only find them, with a copy as the store."""
        store = self._context.store
        sandboxes = store.sandboxes()
        living = Snapshot.take(self._context.config.roots, sandboxes)
        restored = self._restore(living, sandboxes)
        if restored:
            sandboxes = store.sandboxes()
        if not dry_run:
            self._note_unreadable(living)
        repairs = restored + self._leaving(living, sandboxes, dry_run=dry_run)
        new = self._new(living, sandboxes)
        known = {sandbox.key for sandbox in sandboxes}
        orphans = [(c, inside) for c, inside in new if isinstance(inside, Orphan)]
        repairs += self._bring(orphans, known, dry_run=dry_run)
        if repairs or orphans:  # even an attachment that failed may have put a sandbox back
            sandboxes = store.sandboxes()
        # A reload has left the former networks that were in use, maybe for the last time.
        used = {i.network for sandbox in sandboxes for i in sandbox.interfaces}
        used |= {sandbox.limits.policy for sandbox in sandboxes} - {""}
        self._context.host.keep_only(self._context.config.networks.keys() | used)
        try:
            repairs += self._context.host.sync(sandboxes, dry_run=dry_run)
        finally:  # what is wrong with the others stops no new container
            repairs += self._bring(new[len(orphans) :], known, dry_run=dry_run)
        return repairs + self._unheld(dry_run=dry_run)

    def let_go(self) -> None:
        """Detach the members that have gone, and do nothing else."""
        sandboxes = self._context.store.sandboxes()
        living = Snapshot.take(self._context.config.roots, sandboxes)
        self._leaving(living, sandboxes, dry_run=False)

    def _bring(
        self, new: Sequence[tuple[Container, Inside]], known: Set[int], *, dry_run: bool
    ) -> list[Repair]:
        """Attach `new` containers; `known` are the sandboxes that the store had at first."""
        if dry_run:
            done = [self._would_bring(container, inside, known) for container, inside in new]
        else:
            done = self._attachment.bring_all(new)
        return [
            Repair(f"attached {container.id}", container.id, "it had no network")
            for (container, _), brought in zip(new, done, strict=True)
            if brought
        ]

    def _note_unreadable(self, living: Snapshot) -> None:
        failures = self._context.failures
        for root, id_, error in living.unreadable:
            if running(root, id_, self._context.store.sandbox_of) is not None:
                failures.note_unread(root, id_, error)
            else:
                failures.note(root, id_, None, error)
        for failure in failures.all():
            if not failure.refused and not living.has(failure.root, failure.id, failure.init):
                failures.forget(failure.root, failure.id, refused=False)

    def _restore(self, living: Snapshot, sandboxes: Sequence[Sandbox]) -> list[Repair]:
        """Put sandboxes back into a lost store from their copies.

        A copy is true if the init of a member that lives is in its namespace, as the kernel says.
        """
        repairs = []
        for copy in self._context.host.copies.read(sandboxes):
            gone = living.gone(copy)
            inits = [member.init for member in copy.members if member not in gone]
            if not any(proc.netns_of(i.pid) == copy.netns and proc.runs(i) for i in inits):
                continue
            repair = Repair(f"put {copy.id} back", copy.id, "the lease store did not have it")
            try:
                self._context.store.restore(copy, self._context.host.networks)
            except WatcherError as error:
                repair = replace(repair, error=str(error))
            repairs.append(repair)
        return repairs

    def _leaving(
        self, living: Snapshot, sandboxes: Sequence[Sandbox], *, dry_run: bool
    ) -> list[Repair]:
        repairs = []
        for sandbox in sandboxes:
            leaving = living.gone(sandbox)
            if leaving or not sandbox.members:
                names = ", ".join(member.id for member in leaving) or sandbox.id
                repairs.append(Repair(f"detached {names}", sandbox.id, "it has vanished"))
                if not dry_run:
                    self._attachment.steps.take_back(sandbox, leaving)
        return repairs

    def _new(
        self, living: Snapshot, sandboxes: Sequence[Sandbox]
    ) -> list[tuple[Container, Inside]]:
        """The containers that the store does not know, with their orphans.

        Those with an orphan come first, so that no other container gets their addresses. Then
        those that may get a sandbox of their own come before those that join one or were moved
        there, and last are those that get nothing by themselves: what an orphan among them was is
        known from a member. Among equals, those that name their host ports come before those that
        get a free one.
        """
        known = {(m.root, m.id, m.init) for s in sandboxes for m in s.members}
        new = [
            (c, look_inside(self._context, c))
            for c in living.containers
            if (c.root, c.id, c.init) not in known
        ]
        self._attachment.founders.remember_only(container for container, _ in new)
        new.sort(
            key=lambda one: (not isinstance(one[1], Orphan), *self._rank(one[0]), _chooses(one[0]))
        )
        return new

    def _rank(self, container: Container) -> tuple[int, int]:
        asks = is_annotated(container)
        if shares_by_annotation(container):
            return 1, container.init.start  # whoever it shares had started before
        if container.has_own_netns and (asks or not self._is_selective(container)):
            return 0, 0
        return (1 if asks else 2 + (not container.has_own_netns)), 0

    def _is_selective(self, container: Container) -> bool:
        return root_of(self._context.config, container).attach == "annotated"

    def _unheld(self, *, dry_run: bool) -> list[Repair]:
        """Take back what a killed service mounted on the roots for its gate."""
        if self._context.serving:
            return []
        config, repairs = self._context.config, []
        with Lock(config.run_dir, SERVICE) as service:
            if not service.free():  # it runs, and holds runc there
                return []
        for root in present(config.roots):
            if root_mounts.is_ours(root.path):
                what = f"unmounted {root.path}"
                repairs.append(Repair(what, "", "the service that held runc there has ended"))
                if not dry_run:
                    root_mounts.take_back(root.path)
        return repairs

    def _would_bring(self, container: Container, inside: Inside, known: Set[int]) -> bool:
        """Whether a container would be attached.

        A container that has a network but is not in the store is added to this copy of it: else
        its things would look surplus. `known` are the sandboxes that the store had at first.
        """
        store = self._context.store
        try:
            request = parse_request(container.annotations, container.hostname)
            orphan = adopt(self._context, container, inside, self._attachment.founders)
            match self._attachment.plan(container, request, attached=orphan is not None):
                case Ignore():
                    return False
                case Create(networks) if orphan is not None:
                    store.create_sandbox(container, networks, request, orphan.by_network(networks))
                case CreateFor(founder, networks) if orphan is not None:
                    kept = orphan.by_network(networks)
                    store.create_sandbox_for(founder, networks, container, request, kept)
                case Join(sandbox) if sandbox.key not in known:
                    store.join(container, sandbox.key, request)
        except (WatcherError, OSError):
            return False
        return True


def _chooses(container: Container) -> bool:
    """Whether `container` seems to ask for a free host port, by an entry without a colon."""
    ports = container.annotations.get(keys.PORTS, "")
    return bool(ports) and any(":" not in entry for entry in ports.split(","))
