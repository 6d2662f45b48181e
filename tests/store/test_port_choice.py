"""Host ports that the store chooses: within the limits, nobody else's, until none is left."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.leases import DEFAULT, DUAL, container, rows
from watcher.containers.ports import parse_ports
from watcher.model.container import Container
from watcher.model.errors import InvalidRequest
from watcher.model.policy.limits import UNLIMITED
from watcher.model.request import PortMap, Protocol, Request
from watcher.store.leases import LeaseStore
from watcher.store.port_choice import DYNAMIC, FEW, Choice, Choices, Ranges

WEB = Request(ports=parse_ports("80"))


def within(*ranges: tuple[int, int], in_use: Collection[int] = ()) -> Choices:
    """A choice of these ports, of which the host uses some."""

    def listening(_: Protocol, low: int, high: int) -> set[int]:
        return {number for number in in_use if low <= number <= high}

    return lambda _: Choice(ranges, listening)


def test_a_chosen_port(store: LeaseStore) -> None:
    asked = Request(ports=parse_ports("8080:80,80,53/udp,80/udp"))
    made = store.create_sandbox(container("web"), [DUAL], asked)
    named, *chosen = made.ports
    assert named == PortMap("tcp", None, 8080, 80)
    assert [(p.protocol, p.host_ip, p.port, p.length) for p in chosen] == [
        ("tcp", None, 80, 1), ("udp", None, 53, 1), ("udp", None, 80, 1),
    ]  # fmt: skip
    ((low, high),) = DYNAMIC
    assert all(low <= port.host_port <= high for port in chosen)
    assert made.kept
    assert made.members[0].asked == asked
    assert store.by_key(made.key) == made
    assert store.sandboxes() == [made]


def test_a_sandbox_without_a_chosen_port_is_not_kept(store: LeaseStore) -> None:
    named = Request(ports=parse_ports("8080:80"))
    made = store.create_sandbox(container("web"), [DEFAULT], named)
    assert not made.kept
    joined = store.join(container("side", 2), made.key, WEB)
    assert joined.kept


def test_the_port_stays_whatever_else_changes(store: LeaseStore) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], WEB)
    again = store.join(container("web"), made.key, WEB)
    assert again.ports == made.ports
    renamed = Request(ports=WEB.ports, names=("shop",))
    assert store.join(container("web"), made.key, renamed).ports == made.ports


def test_another_request_is_met_anew(store: LeaseStore) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], WEB, choices=within((7, 7)))
    assert made.ports == parse_ports("7:80")
    now = Request(ports=parse_ports("81"))
    assert store.join(container("web"), made.key, now, within((7, 7))).ports == parse_ports("7:81")


def test_none_is_left(store: LeaseStore) -> None:
    for number in range(3):
        choices = within((9000, 9002))
        store.create_sandbox(container(f"c{number}", number), [DEFAULT], WEB, choices=choices)
    before = store.sandboxes()
    assert {port.host_port for sandbox in before for port in sandbox.ports} == {9000, 9001, 9002}
    with pytest.raises(InvalidRequest) as caught:
        store.create_sandbox(container("late", 9), [DEFAULT], WEB, choices=within((9000, 9002)))
    assert caught.value.key == "io.watcher.ports"
    assert caught.value.reason == "no host port of 9000-9002 is free for 80/tcp"
    assert "limits.host_ports" in caught.value.remedy
    assert store.sandboxes() == before
    udp = Request(ports=parse_ports("80/udp"))
    store.create_sandbox(container("late", 9), [DEFAULT], udp, choices=within((9000, 9002)))


def test_a_port_of_the_host_and_one_on_an_address_are_not_free(store: LeaseStore) -> None:
    choices = within((9000, 9003), in_use=(9001, 9003))
    one = Request(ports=parse_ports("127.0.0.1:9000:80"))
    store.create_sandbox(container("local", 1), [DEFAULT], one)
    made = store.create_sandbox(container("web", 2), [DEFAULT], WEB, choices=choices)
    assert made.ports == parse_ports("9002:80")


def test_a_named_port_of_the_same_request_is_not_chosen(store: LeaseStore) -> None:
    asked = Request(ports=parse_ports("80,9000:81"))
    made = store.create_sandbox(container("web"), [DEFAULT], asked, choices=within((9000, 9001)))
    assert made.ports == parse_ports("9001:80,9000:81")


def test_many_at_once_in_one_transaction(store: LeaseStore) -> None:
    wanted = [(container(f"c{n}", n), [DEFAULT], WEB, UNLIMITED) for n in range(40)]
    made = store.create_sandboxes(wanted, within((9000, 9029)))
    ports = [port.host_port for sandbox in made[:30] for port in sandbox.ports]  # type: ignore[union-attr]
    assert sorted(ports) == list(range(9000, 9030))
    assert all(isinstance(refused, InvalidRequest) for refused in made[30:])
    assert rows(store, "claim") == 30


def test_as_many_as_an_annotation_holds(store: LeaseStore) -> None:
    """They are chosen with one look at what is taken, not with one for each."""
    asked = Request(ports=parse_ports(",".join(map(str, range(1, 10001)))))
    looks = 0

    def listening(_: Protocol, low: int, high: int) -> set[int]:
        nonlocal looks
        looks += 1
        return {50000} if low <= 50000 <= high else set()

    def choices(_: Container) -> Choice:
        return Choice(DYNAMIC, listening)

    made = store.create_sandbox(container("web"), [DEFAULT], asked, choices=choices)
    assert len({port.host_port for port in made.ports} - {50000}) == 10000
    assert looks == 1
    with pytest.raises(InvalidRequest, match="no host port of 49152-65535 is free"):
        store.create_sandbox(container("more", 2), [DEFAULT], asked, choices=choices)


@st.composite
def _ranges(draw: st.DrawFn) -> Ranges:
    low = draw(st.integers(1, 40))
    first = (low, low + draw(st.integers(0, 12)))
    other = draw(st.none() | st.tuples(st.integers(30, 60), st.integers(0, 9)))
    return (first,) if other is None else (first, (other[0], other[0] + other[1]))


_NAMED = st.builds(
    lambda first, length, ip: f"{ip}{first}-{first + length}:{first}-{first + length}",
    st.integers(1, 60), st.integers(0, 20), st.sampled_from(["", "127.0.0.1:", "[::1]:"]),
)  # fmt: skip
_CHOSEN = st.lists(st.integers(1, 3 * FEW), min_size=1, max_size=2 * FEW, unique=True)


@settings(deadline=None, max_examples=150)
@given(
    _ranges(),
    st.sets(st.integers(1, 75), max_size=20),
    st.lists(_NAMED | _CHOSEN, min_size=1, max_size=8),
)
def test_the_choice_is_within_its_ranges_and_nobodys(
    ranges: Ranges, in_use: set[int], requests: list[str | list[int]]
) -> None:
    """And it is refused only if there are too few."""
    possible = {n for low, high in ranges for n in range(low, high + 1)} - in_use
    held: set[int] = set()
    with TemporaryDirectory() as directory, LeaseStore.open(Path(directory, "leases.db")) as store:
        for number, request in enumerate(requests):
            chosen = not isinstance(request, str)
            text = request if isinstance(request, str) else ",".join(map(str, request))
            asked = Request(ports=parse_ports(text))
            choices = within(*ranges, in_use=in_use)
            who = container(f"c{number}", number)
            try:
                made = store.create_sandbox(who, [DUAL], asked, choices=choices)
            except InvalidRequest:
                assert not chosen or len(possible - held) < len(request)
                continue
            ports = {single.host_port for port in made.ports for single in port.singles()}
            assert not chosen or ports <= possible - held
            assert len(ports) == sum(port.length for port in made.ports)
            held |= ports
