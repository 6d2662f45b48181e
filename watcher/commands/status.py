"""What `watcher ls` and `inspect` show: the roots, and the lease store's view of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from handlers.kernel.namespace import Namespaces
from watcher.config.patterns import may_call
from watcher.config.settings import Config, Root
from watcher.containers import proc, roots
from watcher.containers.annotations import parse_request
from watcher.containers.files import Unreadable
from watcher.containers.life import Snapshot
from watcher.containers.place import Place
from watcher.containers.present import present
from watcher.model.container import Container, Namespace, Status
from watcher.model.errors import InvalidRequest, about
from watcher.model.naming import is_allowed_name
from watcher.model.sandbox import Member, Sandbox
from watcher.reconcile.founders import Founder, Founders
from watcher.reconcile.plan import Ignore, plan
from watcher.store.failures import REFUSED_FOR
from watcher.store.leases import Failure, LeaseStore

_INCOMPLETE: Final = "its runtime has not made it yet"
_WAITING: Final = "it has no network yet; see that a service runs, or run `watcher sync`"
_EXITED: Final = "its init has ended; its runtime has not deleted it yet"


@dataclass(frozen=True, slots=True)
class Entry:
    """A container in the output.

    Attributes:
        root, id: its root and its id.
        status: its status.
        reason: why it has no network, or what is wrong with its ports; else empty.
        container: what runc's files say; `None` if they cannot be read.
        sandbox: its sandbox.
        member: its entry in the sandbox.
        names: what it is called beside its id, as far as its root may call it that.
        refused: whether its start was refused, so that its root does not have it.
    """

    root: str
    id: str
    status: Status
    reason: str = ""
    container: Container | None = None
    sandbox: Sandbox | None = None
    member: Member | None = None
    names: tuple[str, ...] = ()
    refused: bool = False

    @property
    def pid(self) -> int:
        """Its init's process id; 0 if unknown."""
        return self.container.init.pid if self.container else 0


def entries_with_ports(config: Config, store: LeaseStore) -> Iterator[Entry]:
    """Like :func:`entries`, with what is wrong with their ports."""
    sandboxes = store.sandboxes()
    taken = taken_ports(config, sandboxes)
    for entry in entries(config, store, sandboxes):
        if not entry.reason and (reason := taken.get((entry.root, entry.id))):
            yield replace(entry, reason=reason)
        else:
            yield entry


def taken_ports(config: Config, sandboxes: Sequence[Sandbox]) -> dict[tuple[str, str], str]:
    """What is wrong with the ports of each container of which a process of the host took some."""
    if not any(sandbox.ports for sandbox in sandboxes):
        return {}
    from watcher.containers.sockets import holders
    from watcher.reconcile.taken import find

    try:
        found, _ = find(sandboxes, config.networks)
    except OSError:  # `watcher check` tells
        return {}
    names = holders({one.listener.inode for one in found.values()})
    return {
        key: about(one.id, one.error(names.get(one.listener.inode, "")))
        for key, one in found.items()
    }


def entries(config: Config, store: LeaseStore, sandboxes: Sequence[Sandbox]) -> Iterator[Entry]:
    """Every container of every root, and then those whose start was refused lately.

    `sandboxes` are all of the store. Their ports are not looked at, which would take a while.
    """
    failures = {(f.root, f.id): f for f in store.failures()}
    homes = {(m.root, m.id): (s, m) for s in sandboxes for m in s.members}
    by_netns = {s.netns: s for s in sandboxes}
    founders = _Founders(config)
    shown = set()
    for root in present(config.roots):
        try:
            ids = roots.ids(root.path)
        except Unreadable as error:  # show its containers from the store, and the other roots
            for (path, id_), (of, known) in homes.items():
                if path == root.path:
                    own = (of.id, of.init) == (id_, known.init)
                    status = Status.ATTACHED if own else Status.SHARED
                    names = known.asked.names
                    yield Entry(path, id_, status, str(error), None, of, known, names)
            continue
        for id_ in ids:
            shown.add((root.path, id_))
            failure = failures.get((root.path, id_))
            try:
                container = roots.read(root.path, id_)
            except Unreadable as error:
                yield _unread(root.path, id_, error, *homes.get((root.path, id_), (None, None)))
                continue
            if container is None:
                if roots.is_container(root.path, id_):
                    yield Entry(root.path, id_, Status.WAITING, _INCOMPLETE)
                continue
            sandbox, member = homes.get((root.path, id_), (None, None))
            if member is not None and member.init != container.init:
                sandbox = member = None
            status, reason = _status(config, store, container, sandbox, failure, by_netns, founders)
            names = _names(root, container) if member is None else member.asked.names
            yield Entry(root.path, id_, status, reason, container, sandbox, member, names)
    lately = time.time() - REFUSED_FOR
    for name, failure in failures.items():
        if failure.refused and failure.at > lately and name not in shown:
            yield Entry(*name, Status.FAILED, failure.reason, refused=True)


class _Founders:
    """Finds founders; all containers are read once, if any has joined a foreign namespace."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._all: Founders | None = None

    def of(self, container: Container, place: Place) -> Founder | None:
        """As :meth:`watcher.reconcile.founders.Founders.of`, for a container without a sandbox."""
        if container.namespace is not Namespace.JOINED or place.inside is not None:
            return None
        if self._all is None:
            self._all = Founders.among(Snapshot.take(self._config.roots).containers)
        try:
            return self._all.of(container)
        except Unreadable:
            return None


def _unread(
    root: str, id_: str, error: Unreadable, sandbox: Sandbox | None, member: Member | None
) -> Entry:
    """A container with unreadable files; an attached one does not need them any more."""
    if sandbox is None or member is None or not proc.runs(member.init):
        return Entry(root, id_, Status.FAILED, str(error))
    own = (sandbox.id, sandbox.init) == (member.id, member.init)
    status = Status.ATTACHED if own else Status.SHARED
    namespace = Namespace.OWN if own else Namespace.JOINED
    container = Container(root, id_, member.init, "", {}, namespace, "", sandbox.netns)
    return Entry(root, id_, status, "", container, sandbox, member, member.asked.names)


def _names(root: Root, container: Container) -> tuple[str, ...]:
    """The names in the annotations of a container that the store does not have."""
    try:
        names = parse_request(container.annotations, container.hostname).names
    except InvalidRequest:
        return ()
    return tuple(name for name in names if is_allowed_name(name, root.limits.names))


def _status(
    config: Config,
    store: LeaseStore,
    container: Container,
    sandbox: Sandbox | None,
    failure: Failure | None,
    by_netns: Mapping[int, Sandbox],
    founders: _Founders,
) -> tuple[Status, str]:
    if not container.alive:
        return Status.EXITED, _EXITED
    if sandbox is not None:
        own = (sandbox.id, sandbox.init) == (container.id, container.init)
        return Status.ATTACHED if own else Status.SHARED, ""
    if failure is not None and failure.init in (None, container.init):
        return Status.FAILED, failure.reason
    try:
        request = parse_request(container.annotations, container.hostname)
        with Namespaces() as namespaces:
            place = Place.of(container, by_netns.get(container.netns or 0), namespaces)
        share, shared = request.share, None
        if share is not None:
            shared = store.sandbox_to_share(share, container, may_call(config.roots, share))
        founder = founders.of(container, place)
        plan_ = plan(container, place, request, config, shared=shared, founder=founder)
    except InvalidRequest as error:
        return Status.FAILED, about(container.id, error)
    if isinstance(plan_, Ignore):
        return Status.IGNORED, plan_.reason
    return Status.WAITING, _WAITING
