"""What the commands that change a running sandbox have in common."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.commands.lookup import look_up
from watcher.commands.status import Entry, entries
from watcher.config.patterns import may_call
from watcher.containers import proc
from watcher.log.logger import make_log
from watcher.model import keys
from watcher.model.container import Status
from watcher.model.errors import InvalidRequest, WatcherError, message_of, quoted, remedy_for
from watcher.model.sandbox import Member, Sandbox
from watcher.service.assemble import assembled

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from watcher.config.settings import Config
    from watcher.reconcile.context import Context
    from watcher.reconcile.steps import Steps
    from watcher.store.leases import LeaseStore

_ARGUMENTS: Final = {
    keys.IP: "--ip",
    keys.MAC: "--mac",
    keys.INTERFACE: "--interface",
    keys.NETWORK: "network",
    keys.PORTS: "port map",
}
"""What stands on the command line for an annotation."""

_ENDED: Final = (Status.EXITED, Status.ATTACHED, Status.SHARED)
"""How a container is shown whose init has ended: with a network until somebody looks at it."""


class Running(Struct, frozen=True):
    """A container that runs and has a network, while no other process can change that.

    Attributes:
        context: what reconcile works with.
        steps: carries changes out, and takes them back.
        sandbox: the sandbox that it is in.
        member: its entry there.
    """

    context: Context
    steps: Steps
    sandbox: Sandbox
    member: Member


@contextmanager
def running(config: Config, options: argparse.Namespace) -> Iterator[Running]:
    """The container `options.container`, with the host-wide lock taken.

    An InvalidRequest that the caller raises inside becomes an error about the command line, and an
    OSError one about the container.

    Raises:
        WatcherError: there is no such container, there are several, or it has no network.
    """
    log = make_log("debug" if options.log_level == "debug" else "warning", options.log_format)
    with (
        assembled(config, log) as (reconciler, store, _),
        reconciler.changing() as (context, steps),
    ):
        sandbox, member = _find(config, store, options.container)
        with as_arguments(member):
            yield Running(context, steps, sandbox, member)


@contextmanager
def as_arguments(member: Member) -> Iterator[None]:
    """An InvalidRequest becomes an error about the command line, and an OSError one about `member`.

    Raises:
        WatcherError: that.
    """
    try:
        yield
    except InvalidRequest as error:
        argument = _ARGUMENTS.get(error.key, error.key)
        what = f"{argument} {quoted(error.value)}: {error.reason}"
        raise WatcherError(f"container {quoted(member.id)}: {what}", error.remedy) from error
    except OSError as error:
        what = f"container {quoted(member.id)}: {message_of(error)}"
        raise WatcherError(what, remedy_for(error, "run `watcher check`")) from error


class _Known(Struct, frozen=True):
    """A member of a sandbox, for :func:`watcher.commands.lookup.find`."""

    sandbox: Sandbox
    member: Member

    @property
    def root(self) -> str:
        return self.member.root

    @property
    def id(self) -> str:
        return self.member.id

    @property
    def names(self) -> tuple[str, ...]:
        return self.member.asked.names


def _find(config: Config, store: LeaseStore, text: str) -> tuple[Sandbox, Member]:
    """The container that `text` stands for; it has a network.

    Only an id of one of those with a network is enough to know. Otherwise all containers count, as
    for `watcher inspect`: one without a network must not be mistaken for one that is called alike.
    """
    sandboxes = store.sandboxes()
    known = [_Known(sandbox, m) for sandbox in sandboxes for m in sandbox.members]
    living = {(one.root, one.id): one for one in known if proc.runs(one.member.init)}
    may = may_call(config.roots, text)
    same = [one for one in living.values() if one.id == text and may(one.root)]
    if len(same) == 1:
        return same[0].sandbox, same[0].member
    listed = list(entries(config, store, sandboxes))
    seen = {(entry.root, entry.id) for entry in listed}
    things: list[Entry | _Known] = [*listed]
    things += [one for name, one in living.items() if name not in seen]
    found = look_up(config, text, things)
    one = living.get((found.root, found.id))
    if one is None:
        assert isinstance(found, Entry)
        raise _without_network(found)
    return one.sandbox, one.member


def _without_network(entry: Entry) -> WatcherError:
    """Why a container of a root has none."""
    if entry.status in _ENDED:
        return WatcherError(f"container {quoted(entry.id)} has ended", "start it again")
    what = f"container {quoted(entry.id)} has no network: it is {entry.status}"
    reason = entry.reason.removeprefix(f"container {quoted(entry.id)}: ")
    return WatcherError(f"{what} ({reason})", "see `watcher ls`; only an attached one can change")
