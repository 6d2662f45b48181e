"""What `watcher ls` and `inspect` show: the roots, and the lease store's view of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from watcher.config.settings import Config
from watcher.containers import proc, roots
from watcher.containers.annotations import parse_request
from watcher.containers.files import Unreadable
from watcher.containers.place import Place
from watcher.model.container import Container, Namespace, Status
from watcher.model.errors import InvalidRequest, about
from watcher.model.sandbox import Member, Sandbox
from watcher.reconcile.plan import Ignore, plan
from watcher.store.leases import Failure, LeaseStore


@dataclass(frozen=True, slots=True)
class Entry:
    """A container in the output.

    Attributes:
        root, id: its root and its id.
        status: its status.
        reason: why it is failed or ignored; otherwise empty.
        container: what runc's files say; `None` if they cannot be read.
        sandbox: its sandbox.
        member: its entry in the sandbox.
    """

    root: str
    id: str
    status: Status
    reason: str = ""
    container: Container | None = None
    sandbox: Sandbox | None = None
    member: Member | None = None

    @property
    def pid(self) -> int:
        """Its init's process id; 0 if unknown."""
        return self.container.init.pid if self.container else 0


def entries(config: Config, store: LeaseStore) -> Iterator[Entry]:
    """Every container of every root, and those whose start was refused."""
    failures = {(f.root, f.id): f for f in store.failures()}
    sandboxes = store.sandboxes()
    homes = {(m.root, m.id): (s, m) for s in sandboxes for m in s.members}
    by_netns = {s.netns: s for s in sandboxes}
    shown = set()
    for root in config.roots:
        try:
            ids = roots.ids(root.path)
        except Unreadable as error:  # show its containers from the store, and the other roots
            for (path, id_), (of, known) in homes.items():
                if path == root.path:
                    own = (of.id, of.init) == (id_, known.init)
                    status = Status.ATTACHED if own else Status.SHARED
                    yield Entry(path, id_, status, str(error), None, of, known)
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
                yield Entry(root.path, id_, Status.WAITING)
                continue
            sandbox, member = homes.get((root.path, id_), (None, None))
            if member is not None and member.init != container.init:
                sandbox = member = None
            status, reason = _status(config, container, sandbox, failure, by_netns)
            yield Entry(root.path, id_, status, reason, container, sandbox, member)
    for name, failure in failures.items():
        if failure.refused and name not in shown:
            yield Entry(*name, Status.FAILED, failure.reason)


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
    return Entry(root, id_, status, "", container, sandbox, member)


def _status(
    config: Config,
    container: Container,
    sandbox: Sandbox | None,
    failure: Failure | None,
    by_netns: Mapping[int, Sandbox],
) -> tuple[Status, str]:
    if not container.alive:
        return Status.EXITED, ""
    if sandbox is not None:
        own = (sandbox.id, sandbox.init) == (container.id, container.init)
        return Status.ATTACHED if own else Status.SHARED, ""
    if failure is not None and failure.init in (None, container.init):
        return Status.FAILED, failure.reason
    try:
        request = parse_request(container.annotations)
        place = Place.of(container, by_netns.get(container.netns or 0))
        named = (s for s in by_netns.values() if any(m.id == request.share for m in s.members))
        plan_ = plan(container, place, request, config, shared=next(named, None))
    except InvalidRequest as error:
        return Status.FAILED, about(container.id, error)
    if isinstance(plan_, Ignore):
        return Status.IGNORED, plan_.reason
    return Status.WAITING, ""
