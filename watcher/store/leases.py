"""The lease store: the sandboxes, and the addresses, MACs and ports of each.

It is the program's only memory, and knows nothing of the kernel or of runc. Each method that
changes it is one transaction, so a kill leaves all of a change or nothing. Neither a change nor a
look at one sandbox takes longer if there are more sandboxes.

The module is long because it is the whole interface of the content, a few lines per method.
:mod:`.opened` has that of the file.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from watcher.model import keys
from watcher.model.errors import InvalidRequest, WatcherError, quoted, shortened
from watcher.model.policy.limits import UNLIMITED, SandboxLimits
from watcher.model.request import Request
from watcher.store import (
    connecting,
    failures,
    membership,
    port_claims,
    restoring,
    sandboxes,
)
from watcher.store.addresses import free_leases
from watcher.store.cluster import ClusterStore
from watcher.store.failures import Failure
from watcher.store.kept import keep
from watcher.store.opened import OpenStore
from watcher.store.port_choice import ANYWHERE, anywhere

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from watcher.model.address import Address
    from watcher.model.container import Container
    from watcher.model.network import Network
    from watcher.model.request import PortMap
    from watcher.model.sandbox import Member, Sandbox
    from watcher.store.database import Database
    from watcher.store.port_choice import Choice, Choices
    from watcher.store.port_claims import PortClaim

__all__ = ["Failure", "LeaseStore"]


_LISTED: Final = 5
"""The most containers that an error lists."""

_NUMBER: Final = "SELECT number FROM list WHERE document = ?"

_READ: Final = 16
"""The most sandboxes to remember."""


_OF_CONTAINER: Final = "SELECT sandbox FROM member WHERE id = ? AND root = ?"
_IN_NAMESPACE: Final = "SELECT key FROM sandbox WHERE netns = ? ORDER BY key DESC LIMIT 1"
_PLACED: Final = f"SELECT ({_OF_CONTAINER}), ({_IN_NAMESPACE})"

_STALE_OF: Final = (
    "SELECT stale.address FROM address CROSS JOIN stale ON stale.address = address.address"
    " WHERE sandbox = ?"
)
_CONNECTED: Final = (
    "SELECT network, key, sandbox.id FROM interface JOIN sandbox ON key = interface.sandbox"
    " ORDER BY key, ordinal"
)
_FORCED: Final = (
    "SELECT json_extract(limits, '$.policy') AS policy, key, id FROM sandbox"
    " WHERE limits <> '{}' AND json_valid(limits) AND policy <> '' ORDER BY key"
)
"""Whom a root has held to a network's lists, and which network's."""


class LeaseStore(OpenStore):
    """The open lease store. Use it in `with`, from one thread.

    Every method raises WatcherError, with a remedy, if the file cannot be read or written.
    """

    __slots__ = ("_read", "_version")

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._version = (-1, -1)
        self._read: dict[int, Sandbox] = {}
        """Some sandboxes as read from the content of that version: one look reads each twice."""

    @property
    def cluster(self) -> ClusterStore:
        """What it has of the cluster."""
        return ClusterStore(self._database)

    def sandbox(self, netns: int) -> Sandbox | None:
        """The newest sandbox whose namespace has the inode number `netns`.

        The kernel reuses the number of a namespace that has gone, so compare the inits.
        """
        return self._found(_IN_NAMESPACE, netns)

    def sandbox_of(self, root: str, id: str) -> Sandbox | None:  # noqa: A002
        """The sandbox that the container `id` of `root` is in."""
        return self._found(_OF_CONTAINER, id, root)

    def sandboxes_of(
        self,
        root: str,
        id: str,  # noqa: A002
        netns: int,
    ) -> tuple[Sandbox | None, Sandbox | None]:
        """What :meth:`sandbox_of` and :meth:`sandbox` return, mostly for a container without any.

        One question answers both then.
        """
        row = self._database.peek(_PLACED, (id, root, netns))
        assert row is not None
        of, there = row
        return (
            None if of is None else self.by_key(of),
            None if there is None else self.by_key(there),
        )

    def knows(self, root: str, id: str) -> bool:  # noqa: A002
        """Whether the container `id` of `root` is in a sandbox."""
        query = "SELECT 1 FROM member WHERE id = ? AND root = ?"
        return self._database.peek(query, (id, root)) is not None

    def sandbox_named(self, id: str) -> Sandbox | None:  # noqa: A002
        """The newest sandbox with a container `id` of any root; else the newest made for one."""
        with self._database.reading() as db:
            key = sandboxes.key_named(db, id)
            return None if key is None else sandboxes.load(db, key)

    def sandbox_to_share(
        self, share: str, container: Container, may_have: Callable[[str], bool] = lambda _: True
    ) -> Sandbox | None:
        """The sandbox that `share`, an id or a name, leads `container` to.

        An id of the container's own root counts first, then one of another root that may call a
        container so, and then a name.

        Args:
            share: the id or the name.
            container: who is to be there.
            may_have: whether the root of that path may call a container `share`.

        Raises:
            InvalidRequest: it is the name of several other containers.
        """
        with self._database.reading() as db:
            same = sandboxes.with_id(db, share)
            beside = container.id, container.root
            found = sandboxes.named(db, share.lower(), beside, _LISTED + 1)
        for root, key in sorted(same, key=lambda one: one[0] != container.root):
            if root == container.root or may_have(root):
                return self.by_key(key)
        if len(found) > 1:
            listed = ", ".join(shortened(id_) for id_, _ in found[:_LISTED])
            more = " and others" if len(found) > _LISTED else ""
            raise InvalidRequest(
                keys.SHARE,
                share,
                f"several containers have that name: {listed}{more}",
                "name one of them by its id",
            )
        return self.by_key(found[0][1]) if found else self.sandbox_named(share)

    def by_key(self, key: int) -> Sandbox | None:
        """The sandbox of that number."""
        if (version := self._database.version()) != self._version or len(self._read) >= _READ:
            self._version, self._read = version, {}
        elif (known := self._read.get(key)) is not None:
            return known
        with self._database.reading() as db:
            sandbox = sandboxes.load(db, key)
        if sandbox is not None:
            self._read[key] = sandbox
        return sandbox

    def sandbox_with_link(self, host_name: str) -> Sandbox | None:
        """The newest sandbox with a link whose host end has that name."""
        return self._found(
            "SELECT sandbox FROM interface WHERE host_name = ? ORDER BY sandbox DESC LIMIT 1",
            host_name,
        )

    def sandbox_with_address(self, network: str, address: str) -> Sandbox | None:
        """The sandbox that has that address in that network."""
        return self._found(
            "SELECT sandbox FROM address"
            " WHERE network = ? AND address = ? AND sandbox IS NOT NULL",
            network, address,
        )  # fmt: skip

    def version(self) -> tuple[int, int]:
        """What differs whenever any process has changed the content."""
        return self._database.version()

    def sandboxes(self) -> list[Sandbox]:
        """Every sandbox, the oldest first."""
        with self._database.reading() as db:
            return sandboxes.load_all(db)

    def limited(self) -> list[Sandbox]:
        """Every sandbox with limits of its own or of its root, the oldest first."""
        with self._database.reading() as db:
            keys = db.execute("SELECT key FROM sandbox WHERE limits <> '{}' ORDER BY key")
            found = [sandboxes.load(db, key) for (key,) in keys.fetchall()]
        return [sandbox for sandbox in found if sandbox is not None]

    def sandboxes_after(self, key: int, most: int) -> list[Sandbox]:
        """The first sandboxes with higher keys than `key`, at most so many; they have no pins."""
        with self._database.reading() as db:
            return sandboxes.load_after(db, key, most)

    def claimed_spans(self) -> dict[str, tuple[int, int]]:
        """By protocol, two host ports between which all published ones are, if there are any."""
        with self._database.reading() as db:
            return port_claims.spans(db)

    def claims(self, protocol: str, ports: Iterable[int]) -> list[PortClaim]:
        """The port maps of the host's `ports`, whatever addresses they are of."""
        with self._database.reading() as db:
            return port_claims.claims(db, protocol, ports)

    def users(self) -> dict[str, list[str]]:
        """The networks in use, each with the ids of its sandboxes, the oldest first.

        Behind them are those in other networks that are held to its lists.
        """
        found: dict[str, dict[int, str]] = {}
        with self._database.reading() as db:
            for query in (_CONNECTED, _FORCED):
                for network, key, name in db.execute(query):
                    found.setdefault(network, {})[key] = name
        return {network: list(names.values()) for network, names in found.items()}

    def create_sandbox(
        self,
        container: Container,
        networks: Sequence[Network],
        request: Request,
        adopt: Mapping[str, Sequence[Address]] = {},
        choices: Choices = anywhere,
        limits: SandboxLimits = UNLIMITED,
    ) -> Sandbox:
        """Make a sandbox for a live container, its first member, with one interface per network.

        Args:
            container: it leaves its present sandbox, if the store has it in one.
            networks: in the order of its interfaces.
            request: met as a whole or not at all; it is kept as its document.
            adopt: by network name, the addresses that the namespace has already; they are preferred
                to all but fixed ones.
            choices: where host ports are chosen that the request does not name.
            limits: what it is limited to.

        Raises:
            InvalidRequest: what it asks for is in use or not allowed, or a network has no free
                address.
            ValueError: its init has ended.
        """
        if container.netns is None:
            raise ValueError(f"container {quoted(container.id)} has no namespace")
        with self._database.writing() as db:
            return membership.create(db, container, networks, request, adopt, choices, limits)

    def create_sandbox_for(
        self,
        founder: Container,
        networks: Sequence[Network],
        container: Container,
        request: Request,
        adopt: Mapping[str, Sequence[Address]] = {},
        choices: Choices = anywhere,
        limits: SandboxLimits = UNLIMITED,
    ) -> Sandbox:
        """Make a sandbox for `founder`, with the interfaces that `container` in it asks for.

        Both become members; the ports are those of `container`. The rest is as in
        :meth:`create_sandbox`.
        """
        with self._database.writing() as db:
            failures.forget(db, container.root, container.id, refused=True)
            asked = Request(networks=request.networks, addresses=request.addresses, mac=request.mac)
            made = membership.create(db, founder, networks, asked, adopt, choices, limits)
            membership.join(db, container, made.key, request, choices)
            return _load(db, made.key)

    def create_sandboxes(
        self,
        wanted: Iterable[tuple[Container, Sequence[Network], Request, SandboxLimits]],
        choices: Choices = anywhere,
    ) -> list[Sandbox | InvalidRequest]:
        """Make many sandboxes in one transaction; for each, it or why it was not made.

        Each is made as :meth:`create_sandbox` does, for a container that is in no sandbox.
        """
        made: list[Sandbox | InvalidRequest] = []
        with self._database.writing() as db:
            for container, networks, request, limits in wanted:
                db.execute("SAVEPOINT one")
                try:
                    made.append(
                        membership.create(db, container, networks, request, {}, choices, limits)
                    )
                except InvalidRequest as refused:
                    db.execute("ROLLBACK TO one")
                    made.append(refused)
                db.execute("RELEASE one")
        return made

    def join(
        self, container: Container, key: int, request: Request, choices: Choices = anywhere
    ) -> Sandbox:
        """Make a container a member of a sandbox, with exactly the ports of `request`.

        It leaves any other sandbox; as a member of this one it keeps its place, and its ports if it
        asks for the same. `choices` is as in :meth:`create_sandbox`.

        Raises:
            InvalidRequest: another port map is in the way, or no host port is left.
            WatcherError: there is no such sandbox.
        """
        with self._database.writing() as db:
            failures.forget(db, container.root, container.id, refused=True)
            membership.join(db, container, key, request, choices)
            return _load(db, key)

    def set_ports(
        self,
        member: Member,
        ports: Sequence[PortMap],
        choice: Choice = ANYWHERE,
        *,
        kept: bool = True,
    ) -> Sandbox:
        """Give a member `ports` in place of those that it has; returns its sandbox as it is then.

        Args:
            member: a member of a sandbox.
            ports: its port maps from now on; those without a host port get one.
            choice: which host ports these may have.
            kept: whether a copy of the sandbox is kept from now on.

        Raises:
            InvalidRequest: another port map is in the way, or no host port is left.
            WatcherError: it is a member no more.
        """
        with self._database.writing() as db:
            row = db.execute(
                "SELECT number, sandbox FROM member WHERE (id, root, pid, start) = (?, ?, ?, ?)",
                (member.id, member.root, member.init.pid, member.init.start),
            ).fetchone()
            if row is None:
                raise WatcherError(f"container {quoted(member.id)} has ended", "start it again")
            number, key = row
            port_claims.replace(db, key, number, ports, choice)
            keep(db, key, kept=kept)
            return _load(db, key)

    def restore(self, copy: Sandbox, networks: Mapping[str, Network]) -> Sandbox:
        """Write a sandbox as its `copy` has it, under another key.

        `networks` has the networks by their names.

        Raises:
            WatcherError: a network is known no more, or something of it is in use.
        """
        with self._database.writing() as db:
            self._database.untold += 1
            return _load(db, restoring.restore(db, copy, networks))

    def leave(self, root: str, id: str) -> None:  # noqa: A002
        """Drop a member and its port maps; its sandbox stays, even without members."""
        with self._database.writing() as db:
            membership.drop(db, root, id)

    def release(self, key: int) -> None:
        """Drop a sandbox with everything that it has, and remember its addresses."""
        with self._database.writing() as db:
            free_leases(db, key)
            db.execute("DELETE FROM sandbox WHERE key = ?", (key,))

    def connect(
        self, container: Container, key: int, network: Network, request: Request, name: str = ""
    ) -> Sandbox:
        """Give a sandbox an interface in `network`, which goes with its member `container`.

        It gets the first free place. Its name inside is `name`; if that is empty, it is that of the
        network in the first place, and else `eth1` or the next free one.

        Args:
            container: the member.
            key: the sandbox.
            network: where it gets an interface.
            request: the addresses and the MAC that it is to have, if any.
            name: what the interface is to be called inside, if that matters.

        Raises:
            InvalidRequest: it is in that network or in too many; or an address, the MAC or the name
                is in use or not allowed; or no address is free.
            WatcherError: the container is no member any more.
        """
        with self._database.writing() as db:
            connecting.connect(db, container, key, network, request, name)
            return _load(db, key)

    def disconnect(self, key: int, ordinal: int, *, kept: bool = True) -> Sandbox:
        """Take an interface from a sandbox, and remember its addresses.

        `kept` is whether a copy of the sandbox is kept from now on.
        """
        with self._database.writing() as db:
            connecting.disconnect(db, key, ordinal, kept=kept)
            return _load(db, key)

    def stale(self) -> set[Address]:
        """The stale addresses: released ones whose flows may be left in the kernel."""
        with self._database.reading() as db:
            return {ip_address(text) for (text,) in db.execute("SELECT address FROM stale")}

    def stale_of(self, key: int) -> set[Address]:
        """The stale ones among the addresses of a sandbox."""
        if self._database.peek(_STALE_OF, (key,)) is None:  # mostly
            return set()
        with self._database.reading() as db:
            return {ip_address(text) for (text,) in db.execute(_STALE_OF, (key,))}

    def forget_stale(self, addresses: Iterable[Address]) -> None:
        """Note that the flows of `addresses` have ended."""
        with self._database.writing() as db:
            db.executemany("DELETE FROM stale WHERE address = ?", ((str(a),) for a in addresses))

    def fail(self, failure: Failure) -> None:
        """Replace the container's last failure, as :func:`watcher.store.failures.keep` does."""
        with self._database.writing() as db:
            failures.keep(db, failure)

    def forget_failure(self, root: str, id: str, *, refused: bool = True) -> bool:  # noqa: A002
        """Forget a container's failure; a refused one only with `refused`. Was there one?"""
        query = "SELECT 1 FROM failure WHERE id = ? AND root = ? AND refused <= ?"
        if self._database.peek(query, (id, root, refused)) is None:  # mostly, and nothing to write
            return False
        with self._database.writing() as db:
            failures.forget(db, root, id, refused=refused)
        return True

    def failure(self, root: str, id: str) -> Failure | None:  # noqa: A002
        """A container's failure, if one is kept."""
        with self._database.reading() as db:
            return failures.load(db, root, id)

    def has_failures(self) -> bool:
        """Whether there is a failure of a container that was not refused."""
        query = "SELECT 1 FROM failure WHERE NOT refused AND id <> '' LIMIT 1"
        return self._database.peek(query, ()) is not None

    def failures(self) -> list[Failure]:
        """Every kept failure, the oldest first."""
        with self._database.reading() as db:
            return failures.load_all(db)

    def failures_after(self, number: int, most: int) -> list[tuple[int, Failure]]:
        """The first failures after `number` that were not refused, at most so many, numbered."""
        with self._database.reading() as db:
            return failures.load_after(db, number, most)

    def noted(self, name: str) -> str | None:
        """The note `name` of a handler or another part."""
        row = self._database.peek("SELECT value FROM note WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def notes(self) -> list[str]:
        """The names of all notes."""
        with self._database.reading() as db:
            return [row[0] for row in db.execute("SELECT name FROM note ORDER BY name")]

    def note(self, name: str, value: str) -> None:
        """Write the note `name`, in place of an earlier one."""
        with self._database.writing() as db:
            db.execute("INSERT OR REPLACE INTO note (name, value) VALUES (?, ?)", (name, value))

    def erase(self, name: str) -> None:
        """Remove the note `name`."""
        with self._database.writing() as db:
            db.execute("DELETE FROM note WHERE name = ?", (name,))

    def number_of(self, document: str) -> int:
        """The number that stands for the list of that text, the same until it is forgotten."""
        if (known := self.known_number(document)) is not None:
            return known
        with self._database.writing() as db:
            db.execute("INSERT OR IGNORE INTO list (document) VALUES (?)", (document,))
            row = db.execute(_NUMBER, (document,)).fetchone()
        return int(row[0])

    def keep_only(self, documents: Iterable[str]) -> None:
        """Forget the numbers of all other lists; none of them is given again.

        Those of profiles stay: open addresses have them (:mod:`watcher.model.policy.opening`).
        """
        with self._database.writing() as db:
            kept = set(documents)
            rows = db.execute(
                "SELECT document FROM list WHERE document NOT LIKE 'ports %'"
            ).fetchall()
            gone = [row for row in rows if row[0] not in kept]
            db.executemany("DELETE FROM list WHERE document = ?", gone)

    def known_number(self, document: str) -> int | None:
        """The number that stands for the list of that text, if any does."""
        row = self._database.peek(_NUMBER, (document,))
        return None if row is None else int(row[0])

    def document_of(self, number: int) -> str:
        """The text of the list that `number` stands for; empty if it stands for none."""
        row = self._database.peek("SELECT document FROM list WHERE number = ?", (number,))
        return "" if row is None else str(row[0])

    def _found(self, query: str, *values: str | int) -> Sandbox | None:
        """The sandbox whose key `query` returns; usually there is none."""
        row = self._database.peek(query, values)
        return None if row is None else self.by_key(row[0])


def _load(db: sqlite3.Connection, key: int) -> Sandbox:
    sandbox = sandboxes.load(db, key)
    assert sandbox is not None, "it was written in this transaction"
    return sandbox
