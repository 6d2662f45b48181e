"""Writes rows of the lease store when containers join and leave sandboxes.

Each function is a part of its caller's transaction.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.model import keys
from watcher.model.errors import InvalidRequest, WatcherError, quoted
from watcher.model.naming import hashed_mac, interface_names, mac_of
from watcher.model.policy.limits import UNLIMITED, SandboxLimits
from watcher.model.sandbox import Interface, Member, Sandbox
from watcher.store import documents, failures, port_claims
from watcher.store.addresses import AddressBook, free_leases
from watcher.store.block_book import BlockBook, open_book
from watcher.store.ipam import choose, place_fixed, pools_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from watcher.model.address import Address
    from watcher.model.container import Container
    from watcher.model.network import Network
    from watcher.model.request import PortMap, Request
    from watcher.store.ipam import Pool
    from watcher.store.port_choice import Choices

_EARLIER: Final = (
    "SELECT EXISTS (SELECT 1 FROM failure WHERE id = ?1 AND root = ?2),"
    " EXISTS (SELECT 1 FROM member WHERE id = ?1 AND root = ?2)"
)

_INTERFACE: Final = (
    "INSERT INTO interface (sandbox, ordinal, network, name, host_name, mac)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (network, mac) DO NOTHING"
)


def create(
    db: sqlite3.Connection,
    container: Container,
    networks: Sequence[Network],
    request: Request,
    adopt: Mapping[str, Sequence[Address]],
    choices: Choices,
    limits: SandboxLimits,
) -> Sandbox:
    """Make a sandbox, as :meth:`watcher.store.leases.LeaseStore.create_sandbox` says."""
    assert container.netns is not None
    fixed: Mapping[tuple[int, int], Address] = {}
    if request.addresses:
        fixed = place_fixed(networks, request.addresses, container.annotations.get(keys.IP))
    root, id_, init = container.root, container.id, container.init
    failed, placed = db.execute(_EARLIER, (id_, root)).fetchone()
    if failed:
        failures.forget(db, root, id_, refused=True)
    if placed:
        drop(db, root, id_)
    key = db.execute(
        "INSERT INTO sandbox (root, id, pid, start, netns, limits) VALUES (?, ?, ?, ?, ?, ?)",
        (root, id_, init.pid, init.start, container.netns, documents.encode_limits(limits)),
    ).lastrowid
    assert key is not None
    interfaces, forced = [], limits.forced
    for ordinal, (network, name) in enumerate(
        zip(networks, interface_names(networks), strict=True)
    ):
        its_own = {version: fixed[n, version] for n, version in fixed if n == ordinal}
        mac = request.mac if ordinal == 0 else None
        host_name = f"netnsv{ordinal}-{init.pid}"
        place = (key, ordinal, network.name, name, host_name)
        made = add_interface(db, container, network, place, its_own, mac, adopt)
        interfaces.append(replace(made, forced=True) if forced else made)
    ports = _insert_member(db, container, key, request, choices)
    member = Member(root, id_, init, ports, request)
    # Its pin leads to it, because it is the newest sandbox made for that id.
    return Sandbox(
        key,
        id_,
        init,
        container.netns,
        tuple(interfaces),
        (member,),
        (id_,),
        kept=ports != request.ports,
        limits=limits,
    )


def join(
    db: sqlite3.Connection, container: Container, key: int, request: Request, choices: Choices
) -> None:
    """Make a container a member, as :meth:`watcher.store.leases.LeaseStore.join` says."""
    if db.execute("SELECT 1 FROM sandbox WHERE key = ?", (key,)).fetchone() is None:
        what = f"container {quoted(container.id)} cannot join sandbox {key}: it has been released"
        raise WatcherError(what, "run `watcher sync`")
    row = db.execute(
        "SELECT number, sandbox, pid, start, asked FROM member WHERE id = ? AND root = ?",
        (container.id, container.root),
    ).fetchone()
    if row is None or row[1] != key:
        drop(db, container.root, container.id)
        _insert_member(db, container, key, request, choices)
        # Once the founder has gone, nobody's annotations tell what it was limited to.
        db.execute(
            "UPDATE sandbox SET kept = 1 WHERE key = ? AND limits <> ?",
            (key, documents.encode_limits(UNLIMITED)),
        )
        return
    number, before = row[0], row[2:]
    now = (container.init.pid, container.init.start, documents.encode(request))
    if before != now:
        db.execute(
            "UPDATE member SET pid = ?, start = ?, asked = ? WHERE number = ?", (*now, number)
        )
        db.execute("DELETE FROM name WHERE member = ?", (number,))
        insert_names(db, number, request)
        same = before[:2] == now[:2] and documents.decode(before[2]).ports == request.ports
        if not same:  # otherwise it keeps what was chosen, published and unpublished
            db.execute("DELETE FROM claim WHERE member = ?", (number,))
            port_claims.claim(db, container, key, number, request, choices)


def drop(db: sqlite3.Connection, root: str, name: str) -> None:
    """Remove a container from its sandbox, with its port maps and its own interfaces."""
    own = db.execute(
        "SELECT interface.sandbox, ordinal FROM interface JOIN member ON number = interface.member"
        " WHERE id = ? AND root = ?",
        (name, root),
    ).fetchall()
    for sandbox, ordinal in own:
        drop_interface(db, sandbox, ordinal)
    db.execute("DELETE FROM member WHERE id = ? AND root = ?", (name, root))


def drop_interface(db: sqlite3.Connection, sandbox: int, ordinal: int) -> None:
    """Remove an interface from its sandbox, and free its leases."""
    free_leases(db, sandbox, ordinal)
    db.execute("DELETE FROM interface WHERE sandbox = ? AND ordinal = ?", (sandbox, ordinal))


def add_interface(
    db: sqlite3.Connection,
    container: Container,
    network: Network,
    place: tuple[int, int, str, str, str],
    fixed: Mapping[int, Address],
    mac: str | None,
    adopt: Mapping[str, Sequence[Address]],
) -> Interface:
    """Give a sandbox an interface in `network`, with its leases.

    Args:
        db: the store.
        container: who gets it.
        network: where.
        place: sandbox, ordinal, network, name and host end.
        fixed: its address by IP version, where that is chosen.
        mac: its MAC, if that is chosen.
        adopt: as in :meth:`watcher.store.leases.LeaseStore.create_sandbox`.

    Raises:
        InvalidRequest: an address, the MAC or the host end is in use, or no address is free.
    """
    key, ordinal, name_of_network, name, host_name = place
    leases = [
        _choose(db, container, network, pool, (key, ordinal), fixed.get(pool.family), adopt)
        for pool in pools_of(network.subnets)
    ]
    mac = _insert_interface(db, container, place, mac, [address for _, address in leases])
    with_prefix = [book.lease(address) for book, address in leases]
    return Interface(ordinal, name_of_network, name, host_name, mac, tuple(with_prefix))


def _choose(
    db: sqlite3.Connection,
    container: Container,
    network: Network,
    pool: Pool,
    where: tuple[int, int],
    fixed: Address | None,
    adopt: Mapping[str, Sequence[Address]],
) -> tuple[AddressBook | BlockBook, Address]:
    """The address for an interface in a network's subnet, and the book to lease it in.

    `where` is the interface's sandbox and ordinal.
    """
    book = open_book(db, network, pool, container.root, container.id, *where)
    if isinstance(book, BlockBook):
        had = adopt.get(network.name, ())
        if fixed is None:
            return book, book.choose(had)
        book.fixed(fixed, container.annotations.get(keys.IP, str(fixed)), had)
        return book, fixed
    if fixed is not None:
        if (holder := book.holder(fixed)) is None:
            return book, fixed
        raise InvalidRequest(
            keys.IP,
            container.annotations.get(keys.IP, fixed),
            f"{fixed} is held by sandbox {quoted(holder)}",
            f"ask for another address of {pool.text}, or stop that one",
        )
    next_hops = [route.via for route in network.routes]  # leased on request only
    address = choose(book, pool, adopt.get(network.name, ()), next_hops)
    if address is not None:
        return book, address
    raise InvalidRequest(
        keys.NETWORK,
        network.name,
        f"no free address in {pool.text} ({book.in_use()} in use)",
        "stop a container of that network, or give it a larger subnet in the configuration",
    )


def _insert_interface(
    db: sqlite3.Connection,
    container: Container,
    row: tuple[int, int, str, str, str],
    mac: str | None,
    addresses: Sequence[Address],
) -> str:
    """Write an interface, of which `row` has everything but the MAC, and return its MAC."""
    _, _, network, _, host_name = row
    _refuse_taken_link(db, network, host_name)
    for attempt in count():
        if mac is not None:
            candidate = mac
        elif addresses:
            candidate = mac_of(addresses[0], attempt)
        else:
            candidate = hashed_mac(host_name.encode(), attempt)
        if db.execute(_INTERFACE, (*row, candidate)).rowcount:
            return candidate
        if mac is not None:
            break
    (holder,) = db.execute(
        "SELECT id FROM sandbox JOIN interface ON sandbox = key WHERE network = ? AND mac = ?",
        (network, mac),
    ).fetchone()
    raise InvalidRequest(
        keys.MAC,
        container.annotations.get(keys.MAC, mac),
        f"{mac} is in use in network {network} by sandbox {quoted(holder)}",
        "ask for another MAC, or leave it out",
    )


def _refuse_taken_link(db: sqlite3.Connection, network: str, host_name: str) -> None:
    """Refuse a host end that another sandbox has, which has outlived the process in its name.

    The link itself says only the id of its sandbox, which a container of another root may have.
    """
    holder = db.execute(
        "SELECT id FROM sandbox JOIN interface ON sandbox = key WHERE host_name = ?"
        " AND EXISTS (SELECT 1 FROM member WHERE member.sandbox = key)",
        (host_name,),
    ).fetchone()
    if holder is not None:
        raise InvalidRequest(
            keys.NETWORK,
            network,
            f"link {host_name} is that of sandbox {quoted(holder[0])}, which has outlived the"
            " process of that number",
            "start the container again",
        )


def _insert_member(
    db: sqlite3.Connection, container: Container, key: int, request: Request, choices: Choices
) -> tuple[PortMap, ...]:
    """Write a member with its request, and return its port maps."""
    init = container.init
    number = db.execute(
        "INSERT INTO member (root, id, pid, start, sandbox, asked) VALUES (?, ?, ?, ?, ?, ?)",
        (container.root, container.id, init.pid, init.start, key, documents.encode(request)),
    ).lastrowid
    assert number is not None
    if request.names:
        insert_names(db, number, request)
    return port_claims.claim(db, container, key, number, request, choices)


def insert_names(db: sqlite3.Connection, number: int, request: Request) -> None:
    """Write what a member is called beside its id."""
    rows = [(name, number) for name in request.names]
    db.executemany("INSERT INTO name (name, member) VALUES (?, ?)", rows)
