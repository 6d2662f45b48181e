"""What others have written into etcd counts only if nothing but what it should be is in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from watcher.cluster.registry import records

HOST = '{"incarnation": "1", "address": "%s"}'
NETWORK = '{"subnets": ["%s"], "block": 16, "number": 1}'

BAD = {
    "a zone that nftables would read": (records.read_host, HOST % "fe80::1%} ; flush ruleset; {"),
    "a zone of a global address": (records.read_host, HOST % "2001:db8::1%eth0"),
    "a loopback address": (records.read_host, HOST % "127.0.0.1"),
    "a link-local address": (records.read_host, HOST % "fe80::1"),
    "another spelling": (records.read_host, HOST % "2001:DB8::1"),
    "an address that is alive": (records.read_alive, HOST % "2001:db8::1%eth0"),
    "a zone of a subnet": (records.read_network, NETWORK % "2001:db8::%a/64"),
    "a host of two lines": (records.read_block, r'{"host": "b\n", "incarnation": "1"}'),
    "a claim of two lines": (records.read_claim, r'{"host": "b\n", "incarnation": "1"}'),
    "a name of two lines": (records.read_name, "b\n"),
}


@pytest.mark.parametrize(("read", "value"), BAD.values(), ids=BAD)
def test_what_is_no_record(read: Callable[[bytes], object], value: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        read(value.encode())


def test_what_is_one() -> None:
    assert records.read_host((HOST % "2001:db8::1").encode()).address == "2001:db8::1"
    assert records.read_network((NETWORK % "fd09::/64").encode()).subnets == ("fd09::/64",)
    assert records.read_block(b'{"host": "b.example", "incarnation": "1"}').host == "b.example"
