"""Rules that close networks are made and removed in steps of which any may be the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Final

import pytest

from handlers.closing import plan
from handlers.kernel.netlink import Netlink
from handlers.kernel.rtnl import rules
from handlers.kernel.rtnl.rules import Rule
from handlers.networks import driver_of
from handlers.networks.driver import Driver
from tests.support import traffic
from tests.support.host import Host
from watcher.model.network import Network

MARK: Final = 0x10000000


def network(name: str, mode: str, four: str, six: str) -> Driver:
    subnets = (ip_network(four), ip_network(six))
    return driver_of(Network(name=name, mode=mode, bridge=f"{name}0", subnets=subnets))


ONE = network("one", "bridge", "172.21.0.0/16", "fd00:21::/64")
TWO = network("two", "routed", "172.22.0.0/16", "fd00:22::/64")
OTHER = network("other", "routed", "172.23.0.0/16", "fd00:23::/64")
CHANGES: Final[tuple[tuple[list[Driver], list[Driver]], ...]] = (
    ([], [ONE]),
    ([ONE], [ONE, TWO]),
    ([], [ONE, TWO, OTHER]),
    ([ONE, TWO, OTHER], [ONE, OTHER]),
    ([TWO, OTHER], [ONE]),
    ([ONE, TWO], []),
)


@pytest.fixture
def inside(host: Host) -> Iterator[Netlink]:
    """A socket on a host."""
    with traffic.entered(host.here.netns):
        netlink = Netlink()
    with netlink:
        yield netlink


class Rules:
    """The rules of one IP version."""

    def __init__(self, netlink: Netlink, version: int) -> None:
        self._netlink, self._version = netlink, version

    def there(self) -> list[Rule]:
        return rules.read_rules(self._netlink.dump(rules.rules(self._version)))

    def steps(self, drivers: Sequence[Driver]) -> list[bytes]:
        wanted = plan.wanted(self._version, drivers, MARK)
        return plan.steps(self.there(), wanted, exactly=True)

    def change(self, requests: Sequence[bytes]) -> None:
        """Carries out some requests; after each, packets to the host still find it."""
        for request in requests:
            self._netlink.send([request])
            own = [rule for rule in self.there() if rule.table == 255 and not rule.iif]
            assert own

    def close(self, drivers: Sequence[Driver]) -> None:
        self.change(self.steps(drivers))
        assert self.steps(drivers) == []

    def seen(self) -> tuple[list[Rule], list[str]]:
        """All rules, and in which order those of priority 0 do what."""
        there = self.there()
        first = [rule for rule in there if not rule.priority]
        kinds = ["host" if r.action == rules.GOTO else "net" if r.source else "" for r in first]
        kinds = [kind for kind in kinds if kind]
        assert first[-1].table == 255
        return sorted(there, key=repr), sorted(kinds) if kinds[:1] == ["host"] else kinds


@pytest.mark.parametrize("version", [4, 6])
def test_any_step_may_be_the_last(inside: Netlink, version: int) -> None:
    now = Rules(inside, version)
    before = now.there()
    for start, end in CHANGES:
        now.close([])
        now.close(end)
        right = now.seen()
        assert (right[1][:1] == ["host"]) == (TWO in end or OTHER in end)
        now.close([])
        now.close(start)
        for number in range(len(now.steps(end)) + 1):
            now.change(now.steps(end)[:number])
            now.close(end)
            assert now.seen() == right, (start, end, number)
            now.close([])
            now.close(start)
    now.close([])
    assert now.there() == before


def test_rules_of_others_stay_and_are_not_taken_for_ours(host: Host, inside: Netlink) -> None:
    now = Rules(inside, 4)
    host.command("ip", "rule", "add", "pref", "100", "lookup", "local")
    host.command("ip", "rule", "del", "pref", "0")
    host.command("ip", "rule", "add", "pref", "5", "from", "192.0.2.9", "prohibit")
    host.command("ip", "rule", "add", "pref", "6", "from", "192.0.2.9/24", "prohibit")
    before = now.there()
    now.close([TWO])
    assert [rule.action for rule in now.there() if rule.priority == 1] == [rules.NOP]
    now.close([])
    assert now.there() == before
    host.command("ip", "rule", "add", "pref", "0", "iif", "lo", "lookup", "local")
    host.command("ip", "rule", "add", "pref", "0", "lookup", "local")
    with pytest.raises(OSError, match="another program has a rule of priority 0"):
        now.steps([TWO])
