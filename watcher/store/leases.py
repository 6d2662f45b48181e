"""The lease store: the sandboxes, and the addresses, MACs and ports that each one has.

It is the only memory of the program, and knows nothing of the kernel or of runc. Each method that
changes it is one transaction: after a kill, the file has all of a change or nothing. No change, and
no look at one sandbox, takes longer with more sandboxes.

The module is long: it is the whole interface of the store, a few lines a method.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Self

from watcher.model.errors import quoted
from watcher.store import failures, membership, sandboxes
from watcher.store.addresses import free_leases
from watcher.store.database import Database
from watcher.store.errors import StoreDamaged
from watcher.store.failures import Failure

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from watcher.model.address import Address
    from watcher.model.container import Container
    from watcher.model.network import Network
    from watcher.model.request import Request
    from watcher.model.sandbox import Sandbox

__all__ = ["Failure", "LeaseStore"]


class LeaseStore:
    """The lease store, open; use it in `with`, from one thread.

    Every method raises WatcherError, with a remedy, if the file cannot be read or written.
    """

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Opens the store at `path`, and makes or updates it as needed.

        With `read_only`, it is a copy of the file's present content, and empty if there is no file.
        Nothing is made, and neither this process nor a writer waits.

        Raises:
            WatcherError: the file is damaged, something else, a newer program's, locked for more
                than two seconds, or may not be opened or written.
        """
        return cls(Database.open_copy(path) if read_only else Database.open(path))

    @classmethod
    def open_anew(cls, path: Path, in_use_by: Callable[[], str] = lambda: "") -> Self:
        """Opens the store at `path`; one that is no database or damaged is put aside before.

        Whoever calls this has the host-wide lock, and calls :meth:`renew` next, which tells of it.

        Args:
            path: its file.
            in_use_by: called for a store of an earlier schema; it names the service that has it
                open, or returns an empty string.

        Raises:
            WatcherError: as :meth:`open`, except for a damaged file; or that service has it open.
        """
        return cls(Database.open_anew(path, in_use_by))

    @classmethod
    def open_copy(cls, path: Path) -> Self:
        """Opens a copy, as with `read_only`, which may be written: no file hears of that.

        Raises:
            WatcherError: as :meth:`open_anew`.
        """
        try:
            return cls(Database.open_copy(path, read_only=False))
        except StoreDamaged as error:  # it would be put aside
            return cls(Database.open_empty(path, error.what))

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._database.close()

    def lost(self) -> str:
        """Which of its files was removed or replaced meanwhile; empty if none was."""
        return self._database.lost()

    def renew(self) -> str:
        """Opens the store anew where it was lost, with what was in it if nobody was quicker.

        Whoever calls this has the host-wide lock, and has everything looked at then: the file may
        be another's.

        Returns:
            What :meth:`lost` told.

        Raises:
            WatcherError: as :meth:`open`; what was in it is kept until it can be opened.
        """
        return self._database.renew()

    def checkpoint(self) -> None:
        """Writes to disk what a later change would have to wait for.

        It takes milliseconds, and is for idle moments.
        """
        self._database.checkpoint()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def sandbox(self, netns: int) -> Sandbox | None:
        """The newest sandbox whose namespace has the inode number `netns`.

        The kernel reuses the number of a namespace that has gone, so compare the inits.
        """
        return self._found(
            "SELECT key FROM sandbox WHERE netns = ? ORDER BY key DESC LIMIT 1", netns
        )

    def sandbox_of(self, root: str, id: str) -> Sandbox | None:  # noqa: A002
        """The sandbox that the container `id` of `root` is in."""
        return self._found("SELECT sandbox FROM member WHERE id = ? AND root = ?", id, root)

    def knows(self, root: str, id: str) -> bool:  # noqa: A002
        """Whether the container `id` of `root` is in a sandbox."""
        query = "SELECT 1 FROM member WHERE id = ? AND root = ?"
        return self._database.peek(query, (id, root)) is not None

    def sandbox_named(self, id: str) -> Sandbox | None:  # noqa: A002
        """The newest sandbox with a container `id` of any root; else the newest made for one."""
        with self._database.reading() as db:
            key = sandboxes.key_named(db, id)
            return None if key is None else sandboxes.load(db, key)

    def by_key(self, key: int) -> Sandbox | None:
        """The sandbox of that number."""
        with self._database.reading() as db:
            return sandboxes.load(db, key)

    def sandbox_with_link(self, host_name: str) -> Sandbox | None:
        """The newest sandbox with a link whose host end has that name."""
        return self._found(
            "SELECT sandbox FROM interface WHERE host_name = ? ORDER BY sandbox DESC LIMIT 1",
            host_name,
        )

    def sandboxes(self) -> list[Sandbox]:
        """Every sandbox, the oldest first."""
        with self._database.reading() as db:
            return sandboxes.load_all(db)

    def users(self) -> dict[str, list[str]]:
        """The networks in use, each with the ids of its sandboxes, the oldest first."""
        query = (
            "SELECT network, sandbox.id FROM interface JOIN sandbox ON key = interface.sandbox"
            " ORDER BY key, ordinal"
        )
        found: dict[str, list[str]] = {}
        with self._database.reading() as db:
            for network, name in db.execute(query):
                found.setdefault(network, []).append(name)
        return found

    def create_sandbox(
        self,
        container: Container,
        networks: Sequence[Network],
        request: Request,
        adopt: Mapping[str, Sequence[Address]] = {},
    ) -> Sandbox:
        """Makes a sandbox for a live container, its first member, with an interface a network.

        Args:
            container: it leaves the sandbox that it was in, if the store has it in one.
            networks: in the order of its interfaces.
            request: what it asks for is met, or nothing is done; it is kept as its document.
            adopt: by name of a network, the addresses that the namespace has already; one of each
                family is taken where it may be had, in preference to all but a fixed one.

        Raises:
            InvalidRequest: what it asks for is somebody else's or may not be had, or a network has
                no free address.
            ValueError: its init has ended.
        """
        if container.netns is None:
            raise ValueError(f"container {quoted(container.id)} has no namespace")
        with self._database.writing() as db:
            failures.forget(db, container.root, container.id, refused=True)
            return membership.create(db, container, networks, request, adopt)

    def join(self, container: Container, key: int, request: Request) -> Sandbox:
        """Makes a container, with the ports of `request` and none else, a member of a sandbox.

        One that is in another sandbox is moved; one that is in this sandbox keeps its place.

        Raises:
            InvalidRequest: another port map is in the way of one of its.
            WatcherError: there is no such sandbox.
        """
        with self._database.writing() as db:
            failures.forget(db, container.root, container.id, refused=True)
            membership.join(db, container, key, request)
            return _load(db, key)

    def leave(self, root: str, id: str) -> None:  # noqa: A002
        """Drops a member and its port maps; its sandbox stays, even if it was the last."""
        with self._database.writing() as db:
            membership.drop(db, root, id)

    def release(self, key: int) -> None:
        """Drops a sandbox with everything that it has, and remembers its addresses."""
        with self._database.writing() as db:
            free_leases(db, key)
            db.execute("DELETE FROM sandbox WHERE key = ?", (key,))

    def stale(self) -> set[Address]:
        """The stale addresses: released ones whose connections may be left in the kernel."""
        with self._database.reading() as db:
            return {ip_address(text) for (text,) in db.execute("SELECT address FROM stale")}

    def stale_of(self, addresses: Iterable[Address]) -> set[Address]:
        """The stale ones of a few `addresses`."""
        query = "SELECT 1 FROM stale WHERE address = ?"
        return {a for a in addresses if self._database.peek(query, (str(a),)) is not None}

    def forget_stale(self, addresses: Iterable[Address]) -> None:
        """Notes that the connections of `addresses` have ended."""
        with self._database.writing() as db:
            db.executemany("DELETE FROM stale WHERE address = ?", ((str(a),) for a in addresses))

    def fail(self, failure: Failure) -> None:
        """Replaces the container's last failure.

        Of the failures of refused containers, the newest 100 stay.
        """
        with self._database.writing() as db:
            failures.keep(db, failure)

    def forget_failure(self, root: str, id: str, *, refused: bool = True) -> None:  # noqa: A002
        """Forgets a container's failure, if there is one; one of a refused only with `refused`."""
        with self._database.writing() as db:
            failures.forget(db, root, id, refused=refused)

    def failure(self, root: str, id: str) -> Failure | None:  # noqa: A002
        """A container's failure, if one is kept."""
        with self._database.reading() as db:
            return failures.load(db, root, id)

    def has_failures(self) -> bool:
        """Whether there is a failure of a container that was not refused."""
        query = "SELECT 1 FROM failure WHERE NOT refused AND id <> '' LIMIT 1"
        return self._database.peek(query, ()) is not None

    def failures(self) -> list[Failure]:
        """Every failure that is kept, the oldest first."""
        with self._database.reading() as db:
            return failures.load_all(db)

    def noted(self, name: str) -> str | None:
        """The note `name` of a handler or another part."""
        with self._database.reading() as db:
            row = db.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
            return None if row is None else str(row[0])

    def notes(self) -> list[str]:
        """The names of all notes."""
        with self._database.reading() as db:
            return [row[0] for row in db.execute("SELECT name FROM note ORDER BY name")]

    def note(self, name: str, value: str) -> None:
        """Writes the note `name`, in place of an earlier one."""
        with self._database.writing() as db:
            db.execute("INSERT OR REPLACE INTO note (name, value) VALUES (?, ?)", (name, value))

    def erase(self, name: str) -> None:
        """Removes the note `name`."""
        with self._database.writing() as db:
            db.execute("DELETE FROM note WHERE name = ?", (name,))

    def _found(self, query: str, *values: str | int) -> Sandbox | None:
        """The sandbox whose number is the result of `query`; usually there is no result."""
        row = self._database.peek(query, values)
        return None if row is None else self.by_key(row[0])


def _load(db: sqlite3.Connection, key: int) -> Sandbox:
    sandbox = sandboxes.load(db, key)
    assert sandbox is not None, "it was written in this transaction"
    return sandbox
