"""Attaches and detaches containers: decides for each, and has :mod:`.steps` carry that out.

The caller has the host-wide lock.
"""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import batched
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.config import patterns
from watcher.containers import proc, roots
from watcher.containers.annotations import parse_request
from watcher.containers.files import Unreadable
from watcher.containers.place import Place
from watcher.facts.kinds import BundleChanged, RequestChanged
from watcher.model.errors import WatcherError
from watcher.model.sandbox import Member, Sandbox
from watcher.reconcile import families, ports
from watcher.reconcile.adopt import adopt
from watcher.reconcile.founders import Founders
from watcher.reconcile.met import is_there, meets
from watcher.reconcile.movable import NOT_HELD, why_not
from watcher.reconcile.plan import Create, CreateFor, Ignore, Join, Move, plan
from watcher.reconcile.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.model.container import Container
    from watcher.model.network import Network
    from watcher.model.orphan import Orphan
    from watcher.model.policy.limits import SandboxLimits
    from watcher.model.request import Request
    from watcher.reconcile.adopt import Inside
    from watcher.reconcile.context import Context
    from watcher.reconcile.plan import Plan

TOGETHER: Final = 100
"""The most sandboxes that one transaction makes. A kill leaves so many to the next sync at most."""


class Attachment:
    """Attaches and detaches containers.

    Attributes:
        founders: the containers that others may give a sandbox to.
        steps: carries out what is decided.
    """

    def __init__(self, context: Context, founders: Founders) -> None:
        self._context = context
        self.founders = founders
        self.steps = Steps(context)

    def bring(self, container: Container, inside: Inside) -> bool:
        """Give a live container what it should have; an error becomes its failure.

        `inside` is the orphan in its namespace. Returns whether anything had to be done.
        """
        try:
            orphan = adopt(self._context, container, inside, self.founders)
            return self.appear(container, orphan=orphan) or orphan is not None
        except (WatcherError, OSError) as error:
            if proc.runs(container.init):
                self._context.failures.note(container.root, container.id, container.init, error)
            else:  # it ended meanwhile, which explains the error
                self.vanish(container.root, container.id)
            return False

    def bring_all(self, new: Iterable[tuple[Container, Inside]]) -> list[bool]:
        """Like :meth:`bring` for each of `new` containers.

        Sandboxes are made :data:`TOGETHER` at a time, so that one transaction serves many. A
        container that needs anything else, or for which that fails, is left to :meth:`bring`.
        """
        done: list[bool] = []
        for some in batched(new, TOGETHER):
            plain = [container for container, inside in some if inside is None]
            created = {(c.root, c.id) for c in self._create_all(plain)}
            done += [(c.root, c.id) in created or self.bring(c, inside) for c, inside in some]
        return done

    def appear(
        self,
        container: Container,
        request: Request | None = None,
        orphan: Orphan | None = None,
    ) -> bool:
        """Give a live container what it should have, and return whether anything had to be done.

        `request` is what its annotations ask for, if they have been read already. `orphan` is what
        it keeps.

        Raises:
            InvalidRequest: its request cannot be met.
            WatcherError, OSError: it could not be attached; the host is as it was.
        """
        with self._context.host.namespaces:
            return self._appear(container, request, orphan)

    def _appear(self, container: Container, request: Request | None, orphan: Orphan | None) -> bool:
        container, known = self._as_known(container)
        if request is None:
            request = parse_request(container.annotations, container.hostname)
        met = known is not None and meets(known, container, request)
        wanted = self._plan(container, known, request, attached=met or orphan is not None)
        if isinstance(wanted, Join) and (member := wanted.sandbox.member(container)) is not None:
            if met:
                return False
            self._leave_for(request, wanted.sandbox, member)
            known = self._known(container)
            wanted = self._plan(container, known, request)
        if isinstance(wanted, Ignore):
            self._context.failures.forget(container.root, container.id, refused=True)
            self._note_unmet(container, wanted)
            return False
        assert not isinstance(wanted, Move)  # only a held one is moved
        if isinstance(wanted, Join):
            self._check_ports(request, wanted.sandbox)
        else:
            if known is not None:  # it has ended, and another namespace has its number now
                self.steps.take_back(known, known.members)
            if orphan is None:  # an orphan had its ports before any process that listens there now
                ports.check_free(request, self._context.sock_diag)
                ports.check_local(request, wanted.networks)
        self.steps.attach(container, request, wanted, orphan)
        if isinstance(wanted, CreateFor):
            self._bring_joined(container)
        return True

    def move(self, container: Container, request: Request, unmovable: str) -> Move | None:
        """Where a held container has to be moved before it can appear; `None` if nowhere.

        `unmovable` is why its runtime does not allow that; empty if it does.

        Raises:
            InvalidRequest: its request cannot be met.
        """
        container, known = self._as_known(container)
        if known is not None and known.member(container) is not None:
            return None
        with self._context.host.namespaces:
            wanted = self._plan(container, known, request, unmovable=unmovable)
        return wanted if isinstance(wanted, Move) else None

    def plan(self, container: Container, request: Request, *, attached: bool = False) -> Plan:
        """What a live container should get; `attached`: it has its network already.

        Raises:
            InvalidRequest: its request cannot be met.
        """
        with self._context.host.namespaces:
            return self._plan(container, self._known(container), request, attached=attached)

    def _bring_joined(self, container: Container) -> None:
        """Make members of those that were in the namespace of `container` before it.

        If they are very many, sync brings the others: the start of `container` waits for this.
        """
        assert container.netns is not None
        for name in self.founders.joined(container.netns)[:TOGETHER]:
            self.founders.forget(*name)
            with suppress(Unreadable):  # which its own look tells
                other = roots.read(*name)
                if other is not None and other.netns == container.netns:
                    self.bring(other, None)

    def ignores(self, container: Container, request: Request) -> bool:
        """Whether a live container is to be left alone; if it asks for a network, that is noted.

        Raises:
            InvalidRequest: its request cannot be met.
        """
        wanted = self.plan(container, request)
        if not isinstance(wanted, Ignore):
            return False
        self._note_unmet(container, wanted)
        return True

    def _note_unmet(self, container: Container, wanted: Ignore) -> None:
        if wanted.unmet:
            self._context.failures.note_unmet(container, wanted.reason)

    def vanish(self, root: str, id_: str) -> None:
        """Take back what a container had, if anything.

        Raises:
            WatcherError, OSError: something is left; sync finds it.
        """
        self._context.failures.forget(root, id_, refused=False)
        self._context.failures.forget_unmet(root, id_)
        self.founders.forget(root, id_)
        sandbox = self._context.store.sandbox_of(root, id_)
        if sandbox is not None:
            member = sandbox.named(root, id_)
            self.steps.take_back(sandbox, () if member is None else (member,))

    def _plan(
        self,
        container: Container,
        known: Sandbox | None,
        request: Request,
        *,
        unmovable: str = NOT_HELD,
        attached: bool = False,
    ) -> Plan:
        context, share, shared = self._context, request.share, None
        place = Place.of(container, known, context.host.namespaces)
        if share is not None:
            if attached and is_there(place, container):
                request = replace(request, share=None)  # whatever that leads to by now
            else:
                may_have = patterns.may_call(context.config.roots, share)
                shared = context.store.sandbox_to_share(share, container, may_have)
                if container.has_own_netns:
                    unmovable = why_not(container, context.config.gate) or unmovable
        founder = None if place.inside is not None else self.founders.of(container)
        wanted = plan(
            container, place, request, context.config,
            shared=shared, founder=founder, unmovable=unmovable, attached=attached,
        )  # fmt: skip
        if isinstance(wanted, Ignore):
            self.founders.remember(container)
        elif not attached and not isinstance(wanted, Join | Move):
            context.overlaps.refuse(wanted.networks)
        return wanted

    def _known(self, container: Container) -> Sandbox | None:
        """The sandbox in the store with the number of the container's namespace."""
        assert container.netns is not None
        return self._context.store.sandbox(container.netns)

    def _as_known(self, container: Container) -> tuple[Container, Sandbox | None]:
        """`container` in the namespace that it was attached in, after detaching its predecessor.

        A process may move itself into another namespace. The network stays where it was, with the
        rest of the container. The second result is as that of :meth:`_known` for the first one.
        """
        assert container.netns is not None
        was, there = self._context.store.sandboxes_of(container.root, container.id, container.netns)
        if was is None:
            return container, there
        if was.member(container) is None:
            self.vanish(container.root, container.id)
        elif was.is_of(container) and not container.has_own_netns:
            # The gate read another bundle. The namespace existed before this container.
            self._context.facts.publish(BundleChanged(container.root, container.id))
            self.vanish(container.root, container.id)
        else:
            if was.netns != container.netns:
                self._context.failures.note_left(container)
            container = replace(container, netns=was.netns)
        return container, self._known(container)

    def _leave_for(self, request: Request, sandbox: Sandbox, member: Member) -> None:
        """Take back what `member` has, because its annotations have changed."""
        self._check_ports(request, sandbox)
        self._context.facts.publish(RequestChanged(member.root, member.id, member.ports))
        self.steps.take_back(sandbox, (member,))

    def _create_all(self, containers: Iterable[Container]) -> list[Container]:
        """Make the sandboxes of those `containers` that need just that; returns these containers.

        It has no effect on the others, whatever their reason.
        """
        context, began = self._context, time.monotonic()
        wanted: dict[int | None, tuple[Container, Sequence[Network], Request, SandboxLimits]] = {}
        with context.host.namespaces:
            for container in containers:
                if (plain := self._plain(container)) is not None:
                    wanted.setdefault(container.netns, (container, *plain))
        try:
            asked = [port for _, _, request, _ in wanted.values() for port in request.named_ports]
            if context.sock_diag.first_taken(asked) is not None:
                return []
            made = context.store.create_sandboxes(wanted.values(), self.steps.choices)
            both = list(zip((container for container, *_ in wanted.values()), made, strict=True))
            created = [(c, sandbox) for c, sandbox in both if isinstance(sandbox, Sandbox)]
            failed = self.steps.make([(sandbox, sandbox.members) for _, sandbox in created], began)
        except (WatcherError, OSError):
            return []
        return [c for number, (c, _) in enumerate(created) if number not in failed]

    def _plain(
        self, container: Container
    ) -> tuple[Sequence[Network], Request, SandboxLimits] | None:
        """Networks, request and limits of a new sandbox, if `container` needs nothing else."""
        try:
            if self._context.store.knows(container.root, container.id):
                return None
            request = parse_request(container.annotations, container.hostname)
            known = self._known(container)
            wanted = self._plan(container, known, request)
            if known is not None or not isinstance(wanted, Create):
                return None
            host = self._context.host
            networks = families.possible(host, container, wanted.networks, request)
            ports.check_local(request, networks)
        except (WatcherError, OSError):
            return None
        return networks, request, wanted.limits

    def _check_ports(self, request: Request, sandbox: Sandbox) -> None:
        """Raise InvalidRequest for a port map that cannot be forwarded to `sandbox`."""
        carriers = [self._context.host.network(i.network) for i in sandbox.interfaces]
        ports.check_possible(request, carriers, self._context.sock_diag)
