"""Putting a plan into effect, and taking it back: the lease store and the host, in that order.

On the way in, the store is first: what is cut off then has a row, and sync makes the rest of it. On
the way out the host is first: what is cut off then still has a row, and sync takes the rest back.
Whoever calls this has the host-wide lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from watcher.containers import proc
from watcher.containers.annotations import parse_request
from watcher.model.container import Container, Process
from watcher.model.errors import InvalidRequest, WatcherError
from watcher.model.request import Request
from watcher.model.sandbox import Member, Sandbox, without
from watcher.reconcile.plan import Found, Ignore, Join, check_ports, lives, plan

if TYPE_CHECKING:
    from handlers.host import Host
    from handlers.kernel.sockdiag import Listeners
    from watcher.config.settings import Config
    from watcher.log.logger import Log
    from watcher.model.orphan import Orphan
    from watcher.reconcile.failures import Failings
    from watcher.reconcile.flows import Flows
    from watcher.store.leases import LeaseStore


class Attachment:
    """Gives containers what they should have, one at a time.

    Args:
        config: the configuration.
        store: the lease store.
        host: the handlers.
        listeners: tells which ports processes of the host have.
        flows: ends what is left of those who had an address before.
        failings: forgets what went wrong before, where it goes well.
        log: where it tells of what it does.
    """

    def __init__(
        self,
        config: Config,
        store: LeaseStore,
        host: Host,
        listeners: Listeners,
        flows: Flows,
        failings: Failings,
        log: Log,
    ) -> None:
        self._config = config
        self._store = store
        self._host = host
        self._listeners = listeners
        self._flows = flows
        self._failings = failings
        self._log = log
        self._moved: dict[tuple[str, str], Process] = {}
        """The containers whose init was said to have left its namespace."""
        self._untold: list[tuple[str, Sandbox, tuple[Member, ...]]] = []

    def configure(self, config: Config) -> None:
        """Go by `config` from now on."""
        self._config = config

    def appear(
        self,
        container: Container,
        orphan: Orphan | None = None,
        request: Request | None = None,
    ) -> bool:
        """Give a live container what it should have.

        Args:
            container: what it is.
            request: what its annotations ask for, where they have been read already.
            orphan: what its namespace has of ours already, though the store does not know it.

        Returns:
            Whether anything was to do.

        Raises:
            InvalidRequest: it asks for what cannot be met.
            WatcherError, OSError: something is in the way; the host is as it was.
        """
        container = self._as_known(container)
        if request is None:
            request = parse_request(container.id, container.labels)
        known = self._known(container)
        inside = _living(known)
        kept = orphan is not None or (inside is not None and _has_all(inside, container, request))
        match self._plan(container, request, inside, kept=kept):
            case Ignore():
                self._failings.forget(container.root, container.id, refused=True)
                return False
            case Join(sandbox):
                return self._join(container, request, sandbox)
            case Found(networks):
                if inside is not None:
                    return self._join(container, request, inside)
                if known is not None:  # it has ended, and its number is another namespace's now
                    self.take_back(known, known.members)
                if orphan is None:  # else it had its ports before whoever listens there now
                    self._check_listeners(container, request)
                adopt = {} if orphan is None else orphan.by_network(networks)
                self._attach(
                    container, lambda: self._store.found(container, networks, request, adopt)
                )
                return True

    def plan(
        self, container: Container, request: Request, *, kept: bool = False
    ) -> Found | Ignore | Join:
        """What a live container should get; `kept`: it has its network already.

        Raises:
            InvalidRequest: it asks for what cannot be met.
        """
        return self._plan(container, request, _living(self._known(container)), kept=kept)

    def _plan(
        self, container: Container, request: Request, inside: Sandbox | None, *, kept: bool
    ) -> Found | Ignore | Join:
        shared = None if request.share is None else self._store.sandbox_named(request.share)
        return plan(container, request, self._config, inside=inside, shared=shared, kept=kept)

    def vanish(self, root: str, id_: str) -> None:
        """Take back what a container had, if it had anything.

        Raises:
            WatcherError, OSError: something is in the way; sync finds what is left.
        """
        self._failings.forget(root, id_, refused=False)
        self._moved.pop((root, id_), None)
        sandbox = self._store.sandbox_of(root, id_)
        if sandbox is not None:
            leaving = tuple(m for m in sandbox.members if (m.root, m.id) == (root, id_))
            self.take_back(sandbox, leaving)

    def take_back(self, sandbox: Sandbox, leaving: tuple[Member, ...]) -> None:
        """Take back what `sandbox` needs no more without the members `leaving`.

        Raises:
            WatcherError, OSError: something is in the way; sync finds what is left.
        """
        self._host.vanish(sandbox, leaving)
        self._forget(sandbox, leaving)
        self._untold.append(("detached", sandbox, leaving))

    def tell(self) -> None:
        """Log what was done since the last time: nobody waits for it by now."""
        done, self._untold = self._untold, []
        for event, sandbox, members in done:
            self._log.info(
                event,
                container=",".join(member.id for member in members),
                sandbox=sandbox.id,
                addresses=[str(a.ip) for i in sandbox.interfaces for a in i.addresses],
                ports=[str(port) for member in members for port in member.ports],
            )

    def _as_known(self, container: Container) -> Container:
        """`container` in the namespace in which it was seen first, after its predecessor is gone.

        A process may move itself into another namespace. That is its own business: it has its
        network where it was, and so has the rest of the container.
        """
        was = self._store.sandbox_of(container.root, container.id)
        if was is None:
            return container
        if was.member(container) is None:
            self.vanish(container.root, container.id)
            return container
        if was.is_of(container) and not container.has_own_netns:
            # The bundle said otherwise at the gate. What it is in was there before it.
            self._log.warning(
                "its runtime read another config.json than the gate: its network is taken back",
                container=container.id,
            )
            self.vanish(container.root, container.id)
            return container
        if was.netns != container.netns:
            self._tell_of_move(container)
        return replace(container, netns=was.netns)

    def _tell_of_move(self, container: Container) -> None:
        key = (container.root, container.id)
        if self._moved.get(key) != container.init:
            self._moved[key] = container.init
            self._log.warning(
                "its init has left its network namespace, which keeps the network",
                container=container.id,
                root=container.root,
            )

    def _known(self, container: Container) -> Sandbox | None:
        """The sandbox in the store whose namespace has the number of the container's.

        The kernel gives a number to another namespace once nobody is left in the first.
        """
        assert container.netns is not None
        return self._store.sandbox(container.netns)

    def _join(self, container: Container, request: Request, sandbox: Sandbox) -> bool:
        """Make a container a member of `sandbox`, or give one that is other port maps."""
        member = sandbox.member(container)
        if _has_all(sandbox, container, request):
            return False
        networks = [self._host.networks[i.network] for i in sandbox.interfaces]
        check_ports(container, request.ports, networks)
        self._check_listeners(container, request)
        if member is not None:
            self._log.warning(
                "annotations differ from those before",
                container=container.id,
                before=[str(port) for port in member.ports],
            )
            self.take_back(sandbox, (member,))
            return self.appear(container)
        self._attach(container, lambda: self._store.join(container, sandbox.key, request.ports))
        return True

    def _attach(self, container: Container, decide: Callable[[], Sandbox]) -> None:
        """Carry out what `decide` writes to the store, or undo it."""
        try:
            sandbox = decide()
        except InvalidRequest:
            if not self._bury(beside=container):
                raise
            sandbox = decide()
        arriving = tuple(m for m in sandbox.members if m.is_(container))
        try:
            self._flows.end_before(sandbox)
            self._host.appear(sandbox, arriving)
        except (WatcherError, OSError):
            self._forget(sandbox, arriving)
            raise
        self._untold.append(("attached", sandbox, arriving))

    def _bury(self, *, beside: Container) -> bool:
        """Take back what is of the dead, but for those in the namespace of `beside`; if any was.

        Their ends are told, but not heard of yet, and they may be what was in the way.
        """
        buried = False
        for sandbox in self._store.sandboxes():
            dead = tuple(member for member in sandbox.members if not proc.runs(member.init))
            if dead and sandbox.netns != beside.netns:
                self.take_back(sandbox, dead)
                buried = True
        return buried

    def _forget(self, sandbox: Sandbox, leaving: tuple[Member, ...]) -> None:
        if without(sandbox, leaving) is None:
            self._store.release(sandbox.key)
        else:
            for member in leaving:
                self._store.leave(member.root, member.id)

    def _check_listeners(self, container: Container, request: Request) -> None:
        taken = self._listeners.first_taken(request.ports)
        if taken is not None:
            port, listener = taken
            raise InvalidRequest(
                container.id, "io.watcher.ports", port,
                f"a process of the host listens on {listener.address} port {listener.port}",
                "stop that process, or publish another port",
            )  # fmt: skip


def _has_all(sandbox: Sandbox, container: Container, request: Request) -> bool:
    """Whether a container is in `sandbox`, with all that its annotations ask for."""
    member = sandbox.member(container)
    return member is not None and member.ports == request.ports and _meets(sandbox, request)


def _meets(sandbox: Sandbox, request: Request) -> bool:
    """Whether `sandbox` has the networks, addresses and MAC that are asked for.

    It has, unless its bundle was changed between runc's reading and the gate's.
    """
    has = {address.ip for interface in sandbox.interfaces for address in interface.addresses}
    networks = tuple(interface.network for interface in sandbox.interfaces)
    return (
        request.networks in (None, (), networks)
        and has.issuperset(request.addresses)
        and request.mac in (None, sandbox.interfaces[0].mac if sandbox.interfaces else None)
    )


def _living(sandbox: Sandbox | None) -> Sandbox | None:
    """`sandbox`, if there is one and any of its containers lives."""
    return sandbox if sandbox is not None and lives(sandbox) else None
