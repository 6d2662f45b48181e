"""The ports of a member that are set anew, and sandboxes that are put back from their copies."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.leases import DEFAULT, DUAL, container, port, rows
from watcher.containers.ports import parse_ports
from watcher.model.container import Process
from watcher.model.errors import InvalidRequest, WatcherError
from watcher.model.policy.limits import SandboxLimits
from watcher.model.request import PortMap, Request
from watcher.model.sandbox import Interface, Member, Sandbox
from watcher.store.leases import LeaseStore

_ANY = Sandbox(
    1,
    "web",
    Process(1, 1),
    1,
    (Interface(0, "dual", "eth0", "netnsv0-1", "02:00:00:00:00:01", ()),),
    (Member("/run/runc", "web", Process(1, 1)),),
    (),
)
NETWORKS = {network.name: network for network in (DEFAULT, DUAL)}


def test_ports_are_set_in_place_of_all_before(store: LeaseStore) -> None:
    asked = Request(ports=parse_ports("8080:80,81"))
    made = store.create_sandbox(container("web"), [DEFAULT], asked)
    (member,) = made.members
    now = store.set_ports(member, (*member.ports, *parse_ports("9000:90,82")))
    assert now.ports[:3] == (*member.ports, *parse_ports("9000:90"))
    assert now.ports[3].port == 82
    assert now.ports[3].host_port
    assert now.kept
    assert now.members[0].asked == asked
    assert store.by_key(made.key) == now
    assert store.join(container("web"), made.key, asked).ports == now.ports
    left = store.set_ports(member, ())
    assert left.ports == ()
    assert rows(store, "claim") == 0


def test_all_or_none(store: LeaseStore) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], Request(ports=(port(None),)))
    other = Request(ports=(port(None, 9000),))
    store.create_sandbox(container("other", 2), [DEFAULT], other)
    before = store.sandboxes()
    with pytest.raises(InvalidRequest, match='conflicts with 9000:80/tcp of sandbox "other"'):
        store.set_ports(made.members[0], (port(None), port(None, 8999), port(None, 9000)))
    with pytest.raises(InvalidRequest, match="of this sandbox"):
        store.set_ports(made.members[0], (port(None), port(None, target=81)))
    assert store.sandboxes() == before


def test_the_ports_of_one_that_has_gone(store: LeaseStore) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], Request())
    store.release(made.key)
    store.create_sandbox(container("web", 5), [DEFAULT], Request())
    with pytest.raises(WatcherError, match="has ended"):
        store.set_ports(made.members[0], (port(None),))


def full(store: LeaseStore) -> Sandbox:
    """A sandbox with two networks and members, names and ports."""
    asked = Request(ports=parse_ports("8080:80,81"), names=("shop",), annotated=True)
    made = store.create_sandbox(container("web", io="x"), [DUAL, DEFAULT], asked)
    store.join(container("side", 2), made.key, Request(ports=parse_ports("9000-9003:1-4/udp")))
    store.leave("/run/runc", "web")
    joined = store.join(container("third", 3), made.key, Request(names=("three",)))
    return store.set_ports(joined.members[0], joined.members[0].ports)


def test_a_copy_is_put_back_as_it_was(store: LeaseStore, tmp_path: Path) -> None:
    copy = full(store)
    with LeaseStore.open(tmp_path / "other.db") as other:
        other.create_sandbox(container("first", 9), [DEFAULT], Request(addresses=()))
        other.release(1)
        back = other.restore(copy, NETWORKS)
        assert back != copy
        assert replace(back, key=copy.key) == copy
        assert other.sandboxes() == [back]
        assert other.sandbox_named("web") == back
        assert other.sandbox_to_share("three", container("new", 7)) == back
        new = other.create_sandbox(container("new", 7), [DUAL, DEFAULT], Request())
        assert not set(new.leased) & set(copy.leased)
        with pytest.raises(InvalidRequest, match="9001"):
            other.join(container("new", 7), new.key, Request(ports=parse_ports("9001:80/udp")))
        other.release(back.key)
        assert other.stale() >= set(copy.leased)


@pytest.mark.parametrize(
    "why", ["network", "policy", "family", "subnet", "member", "address", "port"]
)
def test_a_copy_that_cannot_be_put_back_changes_nothing(
    store: LeaseStore, tmp_path: Path, why: str
) -> None:
    copy = full(store)
    networks = dict(NETWORKS)
    with LeaseStore.open(tmp_path / "other.db") as other:
        if why == "network":
            del networks["dual"]
        elif why == "policy":
            copy = replace(copy, limits=SandboxLimits(policy="walled"))
        elif why == "family":
            networks["dual"] = replace(DUAL, subnets=DUAL.subnets[1:])
        elif why == "subnet":
            networks["dual"] = replace(
                DUAL, subnets=(IPv4Network("10.44.0.0/24"), DUAL.subnet_of(6))
            )
        elif why == "member":
            other.create_sandbox(container("side", 8), [], Request())
        elif why == "address":
            taken = Request(addresses=(copy.leased[0],))
            other.create_sandbox(container("x", 8), [DUAL], taken)
        elif why == "port":
            other.create_sandbox(container("x", 8), [], Request(ports=parse_ports("9003:80/udp")))
        before = other.sandboxes()
        with pytest.raises(WatcherError, match='sandbox "web" cannot be as before'):
            other.restore(copy, networks)
        assert other.sandboxes() == before
        assert rows(other, "interface") == sum(len(one.interfaces) for one in before)


def _nonsense(copy: Sandbox) -> dict[str, Sandbox]:
    """What no container can have, by what is wrong with it."""
    first, huge = copy.members[0], 2**64 - 1

    def with_port(*port: int) -> Sandbox:
        return replace(copy, members=(replace(first, ports=(PortMap("tcp", None, *port),)),))

    def with_link(**values: object) -> Sandbox:
        return replace(copy, interfaces=(replace(copy.interfaces[0], **values),))

    return {
        "pid": replace(copy, init=Process(huge, 1)),
        "id": replace(copy, id="a/b"),
        "member": replace(copy, members=(replace(first, id="a\0b"),)),
        "names": replace(copy, members=(replace(first, asked=Request(names=("a", "a"))),)),
        "free port": with_port(0, 80),
        "huge port": with_port(huge, 80),
        "range": with_port(60000, 1, 60000),
        "no length": with_port(80, 80, 0),
        "negative port": with_port(80, -1, 1),
        "ordinal": with_link(ordinal=10, host_name="netnsv10-812"),
        "huge ordinal": with_link(ordinal=huge),
        "host end": with_link(host_name="netnsv0-7"),
        "long name": with_link(name="x" * 16),
        "path": with_link(name="../lo"),
        "no name": with_link(name=""),
        "mac": with_link(mac="02:00"),
        "gateway": with_link(addresses=(IPv4Interface("10.8.0.1/24"),)),
    }


@pytest.mark.parametrize("what", _nonsense(_ANY))
def test_a_copy_with_nonsense_is_not_put_back(store: LeaseStore, tmp_path: Path, what: str) -> None:
    """Else each later sync would meet it."""
    copy = _nonsense(full(store))[what]
    with LeaseStore.open(tmp_path / "other.db") as other:
        with pytest.raises(WatcherError, match="cannot be as before"):
            other.restore(copy, NETWORKS)
        assert other.sandboxes() == []
