"""The one path: look at a container, work out what should be, have the handlers close the gap.

The gate, an event, the end of an init, a restart, `watcher sync` and self-healing all end here.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from watcher.containers import proc, roots
from watcher.containers.annotations import parse_request
from watcher.containers.files import Unreadable
from watcher.locks.lock import Busy
from watcher.model.errors import WatcherError, named
from watcher.model.repair import Repair
from watcher.reconcile.attach import Attachment
from watcher.reconcile.failures import Failings
from watcher.reconcile.plan import Ignore
from watcher.reconcile.repairs import Repairs
from watcher.reconcile.sync import Recovery, running_member
from watcher.store.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from handlers.host import Host, Reaper
    from handlers.kernel.sockdiag import Listeners
    from watcher.config.settings import Config
    from watcher.locks.lock import Lock
    from watcher.log.logger import Log
    from watcher.model.container import Container, Process
    from watcher.model.request import Request
    from watcher.model.sandbox import Sandbox
    from watcher.reconcile.flows import Flows
    from watcher.reconcile.sync import Inside
    from watcher.store.leases import LeaseStore


SERVED_PATIENCE: Final = 0.05
"""Seconds that the service's thread waits for another writer: most take milliseconds."""


class Reconciler:
    """Makes leases and host agree with the containers. One thread uses it.

    Args:
        config: the configuration.
        store: the lease store.
        host: the handlers.
        listeners: tells which ports processes of the host have.
        flows: ends the flows of who has gone.
        lock: the host-wide lock, which no other writer has meanwhile.
        log: where it tells of what it does.
        serving: whether this process is the host's service.

    Attributes:
        repairs: tells of what was put right.
    """

    def __init__(
        self,
        config: Config,
        store: LeaseStore,
        host: Host,
        listeners: Listeners,
        flows: Flows,
        lock: Lock,
        log: Log,
        *,
        serving: bool = False,
    ) -> None:
        self._store = store
        self._host = host
        self._flows = flows
        self._lock = lock
        self.repairs = Repairs(log)
        self._selective = any(root.attach != "all" for root in config.roots)
        self._failings = Failings(store, log)
        self._attachment = Attachment(config, store, host, listeners, flows, self._failings, log)
        self._recovery = Recovery(
            config, store, host, self._attachment, self._failings, serving=serving
        )
        self._on_busy: Callable[[], object] | None = None
        self._busy: Busy | None = None

    def configure(self, config: Config) -> None:
        """Go by `config` from now on; what is attached stays as it is.

        Its networks have to be known to the host already.
        """
        self._selective = any(root.attach != "all" for root in config.roots)
        self._attachment.configure(config)
        self._recovery.configure(config)

    def serve(self, on_busy: Callable[[], object]) -> None:
        """Wait hardly for other writers from now on, since everybody waits for this thread.

        Where one has the lock for longer, `look` and `mend` do nothing, `sync` and `admit` raise
        Busy, and `on_busy` is called, once; from then on `blocked` is to be asked.
        """
        self._on_busy = on_busy
        self._lock.wait_no_longer(SERVED_PATIENCE)

    def blocked(self) -> Busy | None:
        """Who has the lock, if anybody; everything is to be looked at when nobody has any more."""
        self._busy = None
        try:
            with self._lock.held():
                return None
        except Busy as busy:
            self._busy = busy
            return busy

    def look(self, root: str, id_: str) -> Process | None:
        """Look at a container again, whatever made one think of it.

        Returns:
            Its init if that runs, whose end is to be told by another look. What goes wrong is
            noted as the container's failure and logged; nothing is raised.
        """
        id_ = named(id_)
        try:
            if self._is_settled(root, id_):
                return None
            with self._held():
                return self._look(root, id_)
        except Busy:
            if self._on_busy is None:
                raise
            return None
        except (WatcherError, OSError) as error:
            self._failings.note(root, id_, None, error)
            return None
        finally:
            self.tell()

    def admit(self, container: Container) -> None:
        """Give a container that is held its network; `tell` is left for when it is let go.

        Raises:
            InvalidRequest: it asks for what cannot be met.
            Busy: another process has the lock.
            WatcherError, OSError: something is in the way; the host is as it was.
        """
        request = parse_request(container.id, container.labels)
        try:
            self._admit(container, request)
        except StoreDamaged:  # it is opened anew now
            self._admit(container, request)

    def _admit(self, container: Container, request: Request) -> None:
        if self._is_ignored(container, request):  # for nobody's work does such a one wait
            return
        with self._held():
            self._attachment.appear(container, request=request)

    def refuse(self, root: str, id_: str, init: Process, error: Exception, *, denied: bool) -> None:
        """Note and log why a held container gets no network; `denied`: it is not started either."""
        self._failings.note(root, id_, init, error, refused=denied)

    def mend(self, host_name: str) -> list[Repair]:
        """Put right the sandbox whose link has that name on the host, if there is (still) one.

        It is logged what was wrong, and what cannot be put right.

        Raises:
            WatcherError, OSError: something is in the way.
        """
        try:
            with self._held():
                sandbox = self._store.sandbox_with_link(host_name)
                repairs = [] if sandbox is None else self._host.links.mend(sandbox)
        except Busy:
            if self._on_busy is None:
                raise
            return []
        self.repairs.tell(repairs)
        if not repairs:
            self.repairs.settled(host_name, gone=sandbox is None)
        return repairs

    def links(self) -> list[str]:
        """The host ends of all links that there should be."""
        return [i.host_name for sandbox in self._store.sandboxes() for i in sandbox.interfaces]

    def sync(self, *, dry_run: bool = False) -> list[Repair]:
        """Make everything agree with the roots, whatever happened meanwhile.

        Returns:
            Each difference that was found; with `dry_run` nothing is changed.

        Raises:
            Busy: another process has the lock.
            WatcherError, OSError: something is in the way.
        """
        with self._locked():
            try:
                return self._sync(dry_run=dry_run)
            except StoreDamaged:
                if dry_run:
                    raise
                return self._sync(dry_run=False)  # it is opened anew now
            finally:
                self.tell()

    def _sync(self, *, dry_run: bool) -> list[Repair]:
        return self._renew() + self._recovery.run(self._try_appear, dry_run=dry_run)

    def tell(self) -> None:
        """Log what was done since the last time, and have the flows of who has gone ended soon."""
        self._attachment.tell()
        self._flows.soon()

    def take_all_back(self) -> list[Sandbox]:
        """Take every sandbox's network back; which they were.

        Raises:
            WatcherError, OSError: something is in the way.
        """
        with self._held():
            sandboxes = self._store.sandboxes()
            for sandbox in sandboxes:
                self._attachment.take_back(sandbox, sandbox.members)
        return sandboxes

    def failed(self) -> list[tuple[str, str]]:
        """Root and id of the containers that failed and live, for another look.

        Raises:
            WatcherError: the lease store cannot be read.
        """
        return [(failure.root, failure.id) for failure in self._failings.living()]

    def any_failed(self) -> bool:
        """Whether :meth:`failed` has any.

        Raises:
            WatcherError: the lease store cannot be read.
        """
        return self._failings.any_living()

    def living(self) -> list[tuple[str, str, Process]]:
        """Root, id and init of the containers whose end is to be told."""
        members = [(m.root, m.id, m.init) for s in self._store.sandboxes() for m in s.members]
        return members + [(f.root, f.id, f.init) for f in self._failings.living() if f.init]

    @property
    def lock(self) -> Lock:
        """The host-wide lock."""
        return self._lock

    @property
    def reaper(self) -> Reaper:
        """What deletes links, in a thread that has to live."""
        return self._host.links.reaper

    def has_pin(self, name: str) -> bool:
        """Whether `name` should be there under `netns_dir`."""
        sandbox = self._store.sandbox_named(named(name))
        return sandbox is not None and name in sandbox.pins

    def lacks_pins(self) -> Iterator[bool]:
        """Of each name under `netns_dir`, whether it was unmounted and should not have been."""
        for name in self._host.pins.unmounted():
            yield name is not None and self.has_pin(name)

    def has_store(self) -> bool:
        """Whether nobody has removed or replaced the lease store since it was opened."""
        return not self._store.lost()

    def rest(self) -> None:
        """Do what is better done while nothing else is to do."""
        self._store.checkpoint()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the host-wide lock; a service that was refused it asks again by `blocked` alone."""
        if self._busy is not None:
            raise self._busy
        try:
            with self._lock.held():
                yield
        except Busy as busy:
            if self._on_busy is not None:
                self._busy = busy
                self._on_busy()
            raise

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the host-wide lock, with a lease store that everybody else sees, too."""
        with self._locked():
            if renewed := self._renew():  # nobody may be given what it does not say is another's
                repairs = self._recovery.run(self._try_appear, dry_run=False)
                self.repairs.tell(renewed + repairs)
            yield

    def _renew(self) -> list[Repair]:
        """Open the lease store anew if it was lost; whoever calls this has everything looked at."""
        lost = self._store.renew()
        return [Repair("opened the lease store anew", "", lost)] if lost else []

    def _look(self, root: str, id_: str) -> Process | None:
        try:
            container = roots.read(root, id_)
        except Unreadable as error:
            member = running_member(self._store, root, id_)
            if member is not None:  # it needs its files no more
                self._failings.note_unread(root, id_, error)
                return member.init
            if self._store.knows(root, id_):  # its init has ended
                self._attachment.vanish(root, id_)
            self._failings.note(root, id_, None, error)
            return None
        if container is None and self._may_live(root, id_):
            return None
        if container is None or not container.alive:
            self._attachment.vanish(root, id_)
            return None
        self._try_appear(container, self._recovery.look_inside(container))
        return container.init

    def _try_appear(self, container: Container, inside: Inside) -> bool:
        """Attach a container; what goes wrong becomes its failure."""
        try:
            orphan = self._recovery.adopt(container, inside)
            return self._attachment.appear(container, orphan) or orphan is not None
        except (WatcherError, OSError) as error:
            if proc.runs(container.init):
                self._failings.note(container.root, container.id, container.init, error)
            else:  # it ended meanwhile: that is why
                self._attachment.vanish(container.root, container.id)
            return False

    def _is_settled(self, root: str, id_: str) -> bool:
        """Whether there is nothing to do for an entry, so that no lock need be waited for.

        Nothing is known of it, and it has gone, has just been made, or is to be left alone.
        """
        try:
            if self._store.knows(root, id_) or self._failings.has(root, id_):
                return False
            container = roots.read(root, id_)
            if container is None or not container.alive:
                return container is None
            request = parse_request(container.id, container.labels)
            return self._is_ignored(container, request)
        except WatcherError:
            return False

    def _may_live(self, root: str, id_: str) -> bool:
        """Whether a container of which its root tells nothing may live all the same.

        The gate has let it in a moment ago, and it has no complete state yet; or the root shows
        nothing at all: something else may be mounted there for a while.
        """
        return roots.may_have(root, id_) and running_member(self._store, root, id_) is not None

    def _is_ignored(self, container: Container, request: Request) -> bool:
        """Whether a container is to be left alone, and the store has nothing of it."""
        if container.has_own_netns and request.networks != () and not self._selective:
            return False
        sandbox = self._store.sandbox_of(container.root, container.id)
        if sandbox is not None:
            return False
        return isinstance(self._attachment.plan(container, request), Ignore)
