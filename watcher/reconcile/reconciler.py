"""The one path: read a container, decide what it should have, have the handlers make it so.

The gate, kernel events, exits, restarts, `watcher sync` and self-healing all use it. The module is
long because all of them come in here, with a few lines each.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from watcher.containers import roots
from watcher.containers.annotations import parse_request
from watcher.containers.files import Unreadable
from watcher.containers.life import lives_untold, running
from watcher.locks.lock import Busy
from watcher.model.errors import (
    InvalidRequest,
    UsageError,
    WatcherError,
    message_with_remedy,
    named,
)
from watcher.model.repair import Repair
from watcher.reconcile.adopt import look_inside
from watcher.reconcile.attach import Attachment
from watcher.reconcile.founders import Founders
from watcher.reconcile.movable import NOT_HELD
from watcher.reconcile.present import Present
from watcher.reconcile.repairs import Repairs
from watcher.reconcile.sync import Recovery
from watcher.reconcile.taken_watch import TakenPorts
from watcher.reconcile.turn import PreparedTurn, Turn
from watcher.store.errors import StoreDamaged
from watcher.store.networks import known_networks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from handlers.host import Reaper
    from watcher.config.settings import Config
    from watcher.facts.publisher import Subscriber
    from watcher.locks.lock import Lock
    from watcher.model.container import Container, Process
    from watcher.model.network import Network
    from watcher.model.request import Request
    from watcher.model.sandbox import Sandbox
    from watcher.reconcile.claimant import Claimant
    from watcher.reconcile.context import Context
    from watcher.reconcile.failures import FailureLog
    from watcher.reconcile.plan import Move
    from watcher.reconcile.steps import Steps


class Reconciler:
    """Makes leases and host agree with the containers, in one thread."""

    def __init__(self, context: Context) -> None:
        self._founders = Founders()
        self._unprepared: set[str] = set()
        """The networks whose bridges are to be made as soon as nothing overlaps."""
        self._use(context)
        self._store = context.store
        self._failures = context.failures
        self._turn = Turn(context.lock)
        self._turn_with_store = PreparedTurn(self._turn, self._make_sure_of_store)
        self.present = Present(context)
        self.repairs = Repairs(context.facts)
        self.taken = TakenPorts(context.store, context.host.networks, context.facts)

    def configure(self, config: Config) -> None:
        """Use `config` from now on; the host knows its networks already. Nothing is reattached."""
        self._use(replace(self._context, config=config))
        self.present.configure(config)

    def _use(self, context: Context) -> None:
        self._context = context
        self._selective = any(root.attach != "all" for root in context.config.roots)
        self._attachment = Attachment(context, self._founders)
        self._recovery = Recovery(context, self._attachment)

    def claim_by(self, claimant: Claimant) -> None:
        """Have `claimant` claim addresses from now on."""
        self._use(replace(self._context, claimant=claimant))

    def serve(self, on_busy: Callable[[], object]) -> None:
        """Wait only briefly for other writers from now on, because the whole service waits.

        If one has the lock for longer, `look` and `mend` do nothing, `sync` and `admit` raise
        Busy, and `on_busy` is called once. The caller then polls `blocked`.
        """
        self._turn.serve(on_busy)

    def blocked(self) -> Busy | None:
        """Who has the lock, if anybody. After it is free again, everything has to be looked at."""
        return self._turn.blocked()

    def look(self, root: str, id_: str) -> Process | None:
        """Look at a container again, for whatever reason; errors become its failure.

        Returns its init, if that runs; its exit requires another look.
        """
        id_ = named(id_)
        try:
            if self._is_settled(root, id_):
                return None
            with self._turn_with_store:
                return self._look(root, id_)
        except Busy:
            if self._turn.waits:
                raise
            return None
        except (WatcherError, OSError) as error:
            self._failures.note(root, id_, None, error)
            return None

    def admit(self, container: Container, unmovable: str = NOT_HELD) -> Move | None:
        """Give a held container its network, or say where it has to be moved before.

        The caller then stops its init, admits it as one that is in that namespace already, and
        moves it. If that fails, :meth:`withdraw` takes it back.

        Args:
            container: the container.
            unmovable: why it cannot be moved; empty if it can, for all that the caller knows.

        Raises:
            InvalidRequest: its request cannot be met.
            Busy: another process has the lock.
            WatcherError, OSError: it could not be attached; the host is as it was.
        """
        request = parse_request(container.annotations, container.hostname)
        try:
            return self._admit(container, request, unmovable)
        except StoreDamaged:  # the retry opens it anew
            return self._admit(container, request, unmovable)

    def _admit(self, container: Container, request: Request, unmovable: str) -> Move | None:
        if self._is_ignored(container, request):  # it need not wait for the lock
            return None
        try:
            with self._turn_with_store:
                if request.share is not None and container.has_own_netns and unmovable != NOT_HELD:
                    move = self._attachment.move(container, request, unmovable)
                    if move is not None:
                        return move
                self._attachment.appear(container, request)
        except Busy:
            try:
                ignored = self._attachment.ignores(container, request)
            except InvalidRequest:  # it is refused in its turn
                ignored = False
            if not ignored:
                raise
        return None

    def withdraw(self, container: Container) -> None:
        """Take back what a container was given that does not start.

        Raises:
            Busy: another process has the lock.
            WatcherError, OSError: something is left; sync finds it.
        """
        with self._turn_with_store:
            self._attachment.vanish(container.root, container.id)

    def refuse(self, root: str, id_: str, init: Process, error: Exception, *, denied: bool) -> None:
        """Note why a held container gets no network; `denied`: it is not started either."""
        self._failures.note(root, id_, init, error, refused=denied)

    def mend(self, host_name: str) -> list[Repair]:
        """Repair the sandbox whose link has that name on the host, if there still is one.

        Returns what was wrong; a failed repair has its :attr:`Repair.error`.
        """
        try:
            with self._turn_with_store:
                sandbox = self._store.sandbox_with_link(host_name)
                repairs = [] if sandbox is None else self._context.host.links.mend(sandbox)
        except Busy:
            if self._turn.waits:
                raise
            return []
        except (WatcherError, OSError) as error:
            what = f"attached {host_name}"
            repairs = [Repair(what, "", "", link=host_name, error=message_with_remedy(error))]
        self.repairs.publish(repairs)
        if not repairs:
            self.repairs.is_right(host_name, gone=sandbox is None)
        return repairs

    def mend_ways(self) -> Generator[None, None, tuple[list[Repair], bool]]:
        """Repair the ways to other hosts of the cluster, in steps: other work may come in between.

        Returns what was wrong, with an error where a repair failed, and whether others have to
        reach this host by another address than before.
        """
        ways = self._context.host.cluster
        before, mending = ways.address, ways.mend()
        try:
            while True:
                with self._turn_with_store:
                    if self._context.host.cluster is not ways:  # a sync looks at everything
                        return [], False
                    try:
                        next(mending)
                    except StopIteration as end:
                        repairs: list[Repair] = end.value
                        break
                yield
        except Busy:
            if self._turn.waits:
                raise
            return [], False
        except (WatcherError, OSError) as error:
            what = "made the ways to other hosts"
            repairs = [Repair(what, "", "", error=message_with_remedy(error))]
        self.repairs.publish(repairs)
        return repairs, ways.address != before

    def suspect_ways(self) -> None:
        """Events about the ways to other hosts were lost: any of them may be wrong."""
        self._context.host.cluster.suspect_all()

    def prepare(self, names: Iterable[str] = ()) -> list[tuple[str, Exception]]:
        """Make the bridges of the networks `names`, so that others see their subnets as taken.

        Returns the networks for which that failed, and why. One that overlaps has its turn when
        that has passed.
        """
        self._unprepared |= set(names)
        failed: list[tuple[str, Exception]] = []
        for name in sorted(self._unprepared - self._context.overlaps.names):
            network = self._context.host.networks.get(name)
            try:
                if network is not None and network.managed:
                    with self._turn:
                        self._context.host.host_sides.prepare(network)
            except Busy:
                break
            except (WatcherError, OSError) as error:
                failed.append((name, error))
            self._unprepared.discard(name)
        return failed

    def look_for_overlaps(self) -> bool:
        """Look again which networks overlap; returns whether an overlap has gone."""
        before = self._context.overlaps.names
        self._context.overlaps.look()
        return bool(before - self._context.overlaps.names)

    @property
    def failures(self) -> FailureLog:
        """The failures of containers."""
        return self._failures

    def sync(self, *, dry_run: bool = False) -> list[Repair]:
        """Make everything agree with the roots; `dry_run`: only find the differences. Returns them.

        Raises:
            Busy: another process has the lock.
            WatcherError, OSError: something could not be done.
        """
        with self._turn:
            try:
                repairs = self._sync(dry_run=dry_run)
            except StoreDamaged:
                if dry_run:
                    raise
                repairs = self._sync(dry_run=False)  # which opens it anew
            finally:
                self._context.flows.soon()
        if not dry_run:
            self.repairs.publish(repairs)
        return repairs

    def _sync(self, *, dry_run: bool) -> list[Repair]:
        return self._renew() + self._recovery.run(dry_run=dry_run)

    @contextmanager
    def changing(self) -> Iterator[tuple[Context, Steps]]:
        """Take the lock for a change of a running sandbox; the lease store is in order.

        Raises:
            Busy: another process has the lock.
            WatcherError, OSError: the lease store could not be opened anew.
        """
        with self._turn_with_store:
            yield self._context, self._attachment.steps

    def known_networks(self, config: Config) -> Mapping[str, Network]:
        """All networks with `config`; containers that have ended are in the way of no change.

        Raises:
            UsageError: a change contradicts what a sandbox has.
        """
        try:
            return known_networks(config, self._store)
        except UsageError:
            self._turn.blocked()  # the lock may be free by now
            with suppress(WatcherError, OSError), self._turn_with_store:
                self._recovery.let_go()
            return known_networks(config, self._store)

    def take_all_back(self) -> list[Sandbox]:
        """Take back the network of every sandbox, and return the sandboxes.

        Raises:
            WatcherError, OSError: something could not be taken back.
        """
        with self._turn_with_store:
            sandboxes = self._store.sandboxes()
            for sandbox in sandboxes:
                self._attachment.steps.take_back(sandbox, sandbox.members)
        return sandboxes

    def subscribe(self, subscriber: Subscriber) -> None:
        """Pass every fact to `subscriber` from now on."""
        self._context.facts.subscribe(subscriber)

    @property
    def run_dir(self) -> str:
        """The directory of the service's files."""
        return self._context.config.run_dir

    @property
    def lock(self) -> Lock:
        """The host-wide lock."""
        return self._context.lock

    @property
    def reaper(self) -> Reaper:
        """Deletes links, in a thread that has to be kept alive."""
        return self._context.host.links.reaper

    def has_store(self) -> bool:
        """Whether the lease store is still the file that was opened."""
        return not self._store.lost()

    def others_version(self) -> tuple[int, int]:
        """As :meth:`watcher.store.leases.LeaseStore.others_version`.

        Raises:
            WatcherError: the store cannot be read.
        """
        return self._store.others_version()

    def rest(self) -> None:
        """Do the work that can wait until the service is idle."""
        self._context.flows.soon()

    def read_ahead(self) -> None:
        """Read now what the next attach would read of the firewall. Call it a moment after work."""
        self._context.host.firewall.read_ahead()

    def tidy(self, *, idle: bool) -> None:
        """Forget the lists that nobody is held to, if they are many, and open their networks.

        Unless the service is `idle`, they have to be very many, and networks stay closed.

        Raises:
            WatcherError, OSError: they are still there.
        """
        host = self._context.host
        opens = idle and host.closing.may_open
        if opens or host.firewall.is_due(idle=idle):
            with self._turn_with_store:
                if opens:
                    host.closing.rest()
                if host.firewall.is_due(idle=idle):
                    host.firewall.rest()

    @property
    def journal_is_long(self) -> bool:
        """Whether a checkpoint of the lease store is due."""
        return self._store.journal_is_long

    def begin_checkpoint(self, ended: Callable[[], object]) -> bool:
        """Begin one, as :meth:`watcher.store.leases.LeaseStore.begin_checkpoint` says."""
        return self._store.begin_checkpoint(ended)

    def end_checkpoint(self) -> None:
        """Wait for the checkpoint, if one was begun.

        Raises:
            StoreDamaged: it found damage.
            WatcherError: the file cannot be written.
        """
        self._store.end_checkpoint()

    def _make_sure_of_store(self) -> None:
        """Make sure that the lease store is not a removed file."""
        if renewed := self._renew():  # sync first: a new store does not know what is in use
            self.repairs.publish(renewed + self._recovery.run(dry_run=False))

    def _renew(self) -> list[Repair]:
        """Open the lease store anew if it was lost; the caller then makes a sync."""
        lost = self._store.renew()
        return [Repair("opened the lease store anew", "", lost)] if lost else []

    def _look(self, root: str, id_: str) -> Process | None:
        try:
            container = roots.read(root, id_)
        except Unreadable as error:
            member = running(root, id_, self._store.sandbox_of)
            if member is not None:  # it is attached and needs its files no more
                self._failures.note_unread(root, id_, error)
                return member.init
            if self._store.knows(root, id_):  # its init has ended
                self._attachment.vanish(root, id_)
            self._failures.note(root, id_, None, error)
            return None
        if container is None and lives_untold(root, id_, self._store.sandbox_of):
            return None
        if container is None or not container.alive:
            self._attachment.vanish(root, id_)
            return None
        self._attachment.bring(container, look_inside(self._context, container))
        return container.init

    def _is_settled(self, root: str, id_: str) -> bool:
        """Whether an entry needs nothing, so that it need not wait for the lock.

        It is unknown, and either has gone, or has just been made, or is to be ignored.
        """
        try:
            if self._store.knows(root, id_) or self._failures.has(root, id_):
                return False
            container = roots.read(root, id_)
            if container is None or not container.alive:
                self._failures.forget_unmet(root, id_)
                self._founders.forget(root, id_)
                return container is None
            request = parse_request(container.annotations, container.hostname)
            return self._is_ignored(container, request)
        except WatcherError:
            return False

    def _is_ignored(self, container: Container, request: Request) -> bool:
        """Whether a container is to be ignored, and the store has nothing of it."""
        if container.has_own_netns and (
            (request.networks != () and not self._selective) or request.share is not None
        ):
            return False
        sandbox = self._store.sandbox_of(container.root, container.id)
        if sandbox is not None:
            return False
        return self._attachment.ignores(container, request)
