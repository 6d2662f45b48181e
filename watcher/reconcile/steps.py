"""The steps of attaching and detaching, in the lease store and on the host, and their undoing.

Attaching writes to the store first: if it is cut off, the row is there, and sync makes the rest.
Detaching changes the host first: if it is cut off, the row is still there, and sync removes the
rest. The caller has the host-wide lock.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from watcher.containers.life import ended
from watcher.facts.kinds import Attached, Detached, Leased, NotRepaired
from watcher.model.errors import InvalidRequest, Unclaimed, WatcherError, quoted
from watcher.model.sandbox import Member, Sandbox, without
from watcher.reconcile import families, ports
from watcher.reconcile.plan import CreateFor, Join, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from watcher.model.container import Container
    from watcher.model.orphan import Orphan
    from watcher.model.request import Request
    from watcher.reconcile.context import Context
    from watcher.reconcile.plan import Create
    from watcher.store.port_choice import Choice


class Steps:
    """Carries out plans and takes them back."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def attach(
        self,
        container: Container,
        request: Request,
        wanted: Create | CreateFor | Join,
        orphan: Orphan | None,
    ) -> None:
        """Carry out a plan step by step; if a step fails, undo those before it.

        Raises:
            InvalidRequest: the request cannot be met.
            WatcherError, OSError: a step failed; the host is as it was.
        """
        began = time.monotonic()
        sandbox = self.enter(
            lambda: self._enter(container, request, wanted, orphan), beside=container.netns
        )
        arriving = sandbox.members
        if isinstance(wanted, Join):
            arriving = tuple(member for member in sandbox.members if member.is_(container))
        self._context.facts.tell(Leased(sandbox, arriving))
        for error in self.make([(sandbox, arriving)], began).values():
            raise error

    def make(
        self, arrivals: Sequence[tuple[Sandbox, tuple[Member, ...]]], began: float
    ) -> dict[int, WatcherError | OSError]:
        """Make on the host what the lease store has for the members that arrive in each sandbox.

        `began` is when their attaching began, on the clock of `time.monotonic`; several share it
        evenly. Returns the errors by the position in `arrivals`; what failed is no longer in the
        store.
        """
        try:
            for sandbox, _ in arrivals:
                self._context.flows.end_before(sandbox)
            changes = [(without(sandbox, arriving), sandbox) for sandbox, arriving in arrivals]
            failed = self._context.host.appear(changes)  # undoes its own steps for what fails
        except BaseException:
            with ExitStack() as undo:
                for sandbox, arriving in arrivals:
                    undo.callback(self._forget, sandbox, arriving)
            raise
        seconds = (time.monotonic() - began) / max(1, len(arrivals))
        for number, (sandbox, arriving) in enumerate(arrivals):
            if number not in failed:
                self._context.facts.publish(Attached(sandbox, arriving, seconds))
        for number in failed:
            self._forget(*arrivals[number])
        return failed

    def enter(self, write: Callable[[], Sandbox], *, beside: int | None) -> Sandbox:
        """Have `write` enter a change into the lease store, if need be after :meth:`bury`.

        Raises:
            InvalidRequest: something is in the way that no ended container has.
        """
        try:
            return write()
        except InvalidRequest:
            if not self.bury(beside=beside):
                raise
            return write()

    def change(self, before: Sandbox, after: Sandbox) -> None:
        """Make on the host what a running sandbox has `after` a change, or nothing of it.

        Raises:
            WatcherError, OSError: a step failed; the host is as it was.
        """
        for error in self._context.host.appear([(before, after)]).values():
            raise error

    def take_back(self, sandbox: Sandbox, leaving: tuple[Member, ...]) -> None:
        """Take back what `sandbox` no longer needs without the members `leaving`.

        Raises:
            WatcherError, OSError: something is left; sync finds it.
        """
        began = time.monotonic()
        left = without(sandbox, leaving)
        self._context.host.vanish(sandbox, left)
        if left is not None and len(left.interfaces) < len(sandbox.interfaces):
            self.rearrange(left)
        self._forget(sandbox, leaving)
        self._context.facts.publish(Detached(sandbox, leaving, time.monotonic() - began))

    def choices(self, container: Container) -> Choice:
        """Where a host port for `container` is chosen."""
        context = self._context
        return ports.choice(root_of(context.config, container), context.sock_diag)

    def rearrange(self, sandbox: Sandbox) -> None:
        """Make the links of a `sandbox` right after one came or went, as sync does.

        A link that cannot be repaired is no reason to keep another one: that is only published.
        """
        for repair in self._context.host.links.mend(sandbox):
            if repair.error:
                self._context.facts.publish(NotRepaired(repair))

    def _enter(
        self,
        container: Container,
        request: Request,
        wanted: Create | CreateFor | Join,
        orphan: Orphan | None,
    ) -> Sandbox:
        """Write the plan into the lease store; :meth:`_forget` undoes it."""
        store = self._context.store
        if isinstance(wanted, Join):
            return store.join(container, wanted.sandbox.key, request, self.choices)
        networks = families.possible(self._context.host, container, wanted.networks, request)
        kept = {} if orphan is None else orphan.by_network(networks)
        try:
            if isinstance(wanted, CreateFor):
                return store.create_sandbox_for(
                    wanted.founder, networks, container, request, kept, self.choices, wanted.limits
                )
            return store.create_sandbox(
                container, networks, request, kept, self.choices, wanted.limits
            )
        except Unclaimed as unclaimed:
            self._context.claimant.claim(unclaimed)
            raise

    def _forget(self, sandbox: Sandbox, leaving: tuple[Member, ...]) -> None:
        """Remove `leaving` from the lease store, and the sandbox with its last member."""
        if without(sandbox, leaving) is None:
            self._context.store.release(sandbox.key)
        else:
            for member in leaving:
                self._context.store.leave(member.root, member.id)

    def bury(self, *, beside: int | None) -> bool:
        """Take back what ended containers have, except in the namespace of the number `beside`.

        Their exits are not handled yet, and what they have may be in the way. Returns whether
        there were any.
        """
        buried = False
        for sandbox in self._context.store.sandboxes():
            dead = ended(sandbox)
            if dead and sandbox.netns != beside:
                self.take_back(sandbox, dead)
                buried = True
        return buried


def ended_meanwhile(member: Member) -> WatcherError:
    """The error of a change to a running container that has ended."""
    return WatcherError(f"container {quoted(member.id)} has ended meanwhile", "start it again")
