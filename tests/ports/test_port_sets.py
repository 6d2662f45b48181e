"""Port maps without others: as sets of single ports, whatever the ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.ports.test_ports import port_map
from watcher.containers.ports import parse_entries
from watcher.model.port_sets import less
from watcher.model.request import PortMap

_MAPS = st.builds(
    lambda kind, ip, first, offset, length: PortMap(
        kind, port_map("tcp", ip, 1, 1).host_ip, first, first + offset, length
    ),
    st.sampled_from(["tcp", "udp"]), st.sampled_from([None, "127.0.0.1", "::"]),
    st.integers(1, 30), st.integers(0, 2), st.integers(1, 12),
)  # fmt: skip


def singles(ports: tuple[PortMap, ...] | list[PortMap]) -> list[PortMap]:
    """Each single port."""
    return [single for port in ports for single in port.singles()]


@given(st.lists(_MAPS, max_size=6), st.lists(_MAPS, max_size=6))
def test_it_is_the_difference_of_sets(ports: list[PortMap], gone: list[PortMap]) -> None:
    left = less(ports, gone)
    taken = set(singles(gone))
    assert singles(left) == [single for single in singles(ports) if single not in taken]


@given(st.lists(_MAPS, max_size=6))
def test_what_is_not_cut_is_the_same(ports: list[PortMap]) -> None:
    assert less(ports, ()) == tuple(ports)
    assert less(ports, ports) == ()


def test_a_range_in_pieces() -> None:
    ports = parse_entries("8000-8009:80-89,9000:1")
    gone = parse_entries("8003:83,8005-8006:85-86,9000:2,9000:1/udp")
    assert less(ports, gone) == tuple(
        parse_entries("8000-8002:80-82,8004:84,8007-8009:87-89,9000:1")
    )


def test_thousands_of_them() -> None:
    """On one line, where each could be compared with each."""
    ports = [PortMap("tcp", None, n, n) for n in range(1, 60001, 2)]
    assert less(ports, ports[1:]) == (ports[0],)
