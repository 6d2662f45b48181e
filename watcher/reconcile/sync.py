"""Recovery: everything made to agree with the roots, whatever happened meanwhile.

Members that have gone leave, containers that are new appear, and each handler compares its kind of
thing with what should be. Whoever calls this has the host-wide lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from handlers.host import root_mounts
from watcher.containers import proc
from watcher.containers.annotations import parse_request
from watcher.containers.snapshot import Living
from watcher.locks.lock import SERVICE, Lock
from watcher.model.address import Address
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import WatcherError
from watcher.model.orphan import Orphan
from watcher.model.repair import Repair
from watcher.model.request import Request
from watcher.model.sandbox import Member, Sandbox
from watcher.reconcile.plan import Found, Ignore, Join, lives

if TYPE_CHECKING:
    from handlers.host import Host
    from watcher.config.settings import Config
    from watcher.reconcile.attach import Attachment
    from watcher.reconcile.failures import Failings
    from watcher.store.leases import LeaseStore


type Guarded = Callable[[], Mapping[str, tuple[Address, ...]]]

type Inside = Orphan | OSError | None
"""What a namespace has of ours that the lease store does not know of; or why that is not known."""


class Recovery:
    """Finds every difference, and closes it.

    Args:
        config: the configuration.
        store: the lease store.
        host: the handlers.
        attachment: attaches and takes back.
        failings: where the unreadable are noted.
        serving: whether this process is the host's service, which holds runc in the roots.
    """

    def __init__(
        self,
        config: Config,
        store: LeaseStore,
        host: Host,
        attachment: Attachment,
        failings: Failings,
        *,
        serving: bool = False,
    ) -> None:
        self._serving = serving
        self._config = config
        self._store = store
        self._host = host
        self._attachment = attachment
        self._failings = failings

    def configure(self, config: Config) -> None:
        """Go by `config` from now on."""
        self._config = config

    def run(self, appear: Callable[[Container, Inside], bool], *, dry_run: bool) -> list[Repair]:
        """Close every difference; with `dry_run` only find them.

        Args:
            appear: attaches one container, and says whether anything was to do; raises nothing.
            dry_run: change nothing; the store is a copy then, for what would be in it.
        """
        living = Living.seen(self._config.roots)
        if not dry_run:
            self._note_unreadable(living)
        sandboxes = self._store.sandboxes()
        repairs = self._leaving(living, sandboxes, dry_run=dry_run)
        new = self._new(living, sandboxes)
        if dry_run:
            appear = partial(self._would_attach, {sandbox.key for sandbox in sandboxes})
        repairs += self._arriving(new, appear)
        if repairs or new:  # also one who failed may have what is put back into the store
            sandboxes = self._store.sandboxes()
        repairs += self._host.sync(sandboxes, dry_run=dry_run)
        return repairs + self._unheld(dry_run=dry_run)

    def look_inside(self, container: Container, guarded: Guarded | None = None) -> Inside:
        """What the namespace of a live container has of ours, if the store does not know it.

        Args:
            container: a live one.
            guarded: tells what the host's guard holds each link to.
        """
        assert container.netns is not None
        if self._knows(container) or container.netns == proc.own_netns():
            return None
        try:
            orphan = self._orphan(container, container.netns)
            if orphan is None:
                return None
            return orphan.held_to((guarded or self._host.firewall.guarded)())
        except OSError as error:
            return error

    def _orphan(self, container: Container, netns: int) -> Orphan | None:
        """What its namespace has of a sandbox that the store does not know to live elsewhere.

        Who has a namespace of its own has what was made for it, and nothing else.
        """
        own = container.has_own_netns
        for orphan in self._host.links.orphans(container.init.pid, netns, own=own):
            if own and not orphan.is_of(container.id):
                continue
            known = (
                self._store.sandbox_with_link(f"netnsv0-{orphan.pid}"),
                self._store.sandbox_of(container.root, orphan.id),
            )
            if not any(s is not None and s.netns != netns and lives(s) for s in known):
                return orphan
        return None

    def adopt(self, container: Container, inside: Inside) -> Orphan | None:
        """Let a container keep what it has `inside`.

        If the one that it was made for has gone, its sandbox is put back into the store.

        Raises:
            OSError: it is not known what it has.
            WatcherError: it cannot be put back.
        """
        assert container.netns is not None
        if isinstance(inside, OSError):
            raise inside
        orphan = inside
        if orphan is None or container.has_own_netns or self._store.sandbox(container.netns):
            return orphan
        names = ["default"] if len(orphan.addresses) == 1 else list(self._config.networks)
        networks = [self._config.networks[name] for name in names][: len(orphan.addresses)]
        id_ = container.id if orphan.is_of(container.id) else orphan.id
        founder = replace(container, id=id_, init=Process(orphan.pid, 0), namespace=Namespace.OWN)
        sandbox = self._store.found(founder, networks, Request(), orphan.by_network(networks))
        self._store.join(container, sandbox.key, ())
        if id_ != container.id:
            self._store.leave(founder.root, founder.id)
        # What it publishes is its own since before: else it would be taken back, and all with it.
        ports = parse_request(container.id, container.labels).ports
        self._store.join(container, sandbox.key, ports)
        return orphan

    def _knows(self, container: Container) -> bool:
        """Whether the store has that container, and not one of its name before it."""
        sandbox = self._store.sandbox_of(container.root, container.id)
        return sandbox is not None and sandbox.member(container) is not None

    def _note_unreadable(self, living: Living) -> None:
        for root, id_, error in living.unreadable:
            if running_member(self._store, root, id_) is not None:
                self._failings.note_unread(root, id_, error)
            else:
                self._failings.note(root, id_, None, error)
        for failure in self._failings.all():
            if not failure.refused and not living.has(failure.root, failure.id, failure.init):
                self._failings.forget(failure.root, failure.id, refused=False)

    def _leaving(
        self, living: Living, sandboxes: Sequence[Sandbox], *, dry_run: bool
    ) -> list[Repair]:
        repairs = []
        for sandbox in sandboxes:
            leaving = living.gone(sandbox)
            if leaving or not sandbox.members:
                names = ", ".join(member.id for member in leaving) or sandbox.id
                repairs.append(Repair(f"detached {names}", sandbox.id, "it has vanished"))
                if not dry_run:
                    self._attachment.take_back(sandbox, leaving)
        return repairs

    def _new(self, living: Living, sandboxes: Sequence[Sandbox]) -> list[tuple[Container, Inside]]:
        """Those whom the store does not know, and what they have inside.

        Who has a network already comes first: nobody else may be given what is theirs. Then who
        makes a namespace comes before who joins it.
        """
        known = {(m.root, m.id, m.init) for s in sandboxes for m in s.members}
        guarded = cache(self._host.firewall.guarded)  # all of them are of one moment
        new = [
            (c, self.look_inside(c, guarded))
            for c in living.containers
            if (c.root, c.id, c.init) not in known
        ]
        new.sort(key=lambda one: (not isinstance(one[1], Orphan), not one[0].has_own_netns))
        return new

    def _arriving(
        self,
        new: Sequence[tuple[Container, Inside]],
        appear: Callable[[Container, Inside], bool],
    ) -> list[Repair]:
        """Attach those who are new."""
        repairs = []
        for container, inside in new:
            if appear(container, inside):
                what = f"attached {container.id}"
                repairs.append(Repair(what, container.id, "it had no network"))
        return repairs

    def _unheld(self, *, dry_run: bool) -> list[Repair]:
        """Take back what a killed service made of the roots for its gate."""
        if self._serving:
            return []
        repairs = []
        with Lock(self._config.run_dir, SERVICE) as service:
            if not service.free():  # it runs, and holds runc there
                return []
        for root in self._config.roots:
            if root_mounts.is_ours(root.path):
                what = f"unmounted {root.path}"
                repairs.append(Repair(what, "", "the service that held runc there has ended"))
                if not dry_run:
                    root_mounts.take_back(root.path)
        return repairs

    def _would_attach(self, known: Set[int], container: Container, inside: Inside) -> bool:
        """Whether a container would be attached.

        Who has a network, and is not in the store, is put into this copy of it: else what they have
        would be surplus. `known` are the sandboxes that the store had at first.
        """
        try:
            request = parse_request(container.id, container.labels)
            orphan = self.adopt(container, inside)
            match self._attachment.plan(container, request, kept=orphan is not None):
                case Ignore():
                    return False
                case Found(networks) if orphan is not None:
                    adopt = orphan.by_network(networks)
                    self._store.found(container, networks, request, adopt)
                case Join(sandbox) if sandbox.key not in known:
                    self._store.join(container, sandbox.key, request.ports)
        except (WatcherError, OSError):
            return False
        return True


def running_member(store: LeaseStore, root: str, id_: str) -> Member | None:
    """The container `id_` of `root` as the store has it, if it has it and its init runs."""
    sandbox = store.sandbox_of(root, id_)
    for member in () if sandbox is None else sandbox.members:
        if (member.root, member.id) == (root, id_) and proc.runs(member.init):
            return member
    return None
