"""Elements of nftables that are changed without libnftables are as if that had changed them."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from handlers.firewall.changes import Changes
from handlers.kernel import nft_elements
from handlers.kernel.netlink import NETLINK_NETFILTER, Netlink
from handlers.kernel.nft import Element, Nft, NftError, NotThere, commands
from tests.support.host import Host
from tests.support.traffic import entered

DECLARED = (
    "map port4 { type inet_proto . inet_service : ipv4_addr . inet_service; }",
    "map port6_on { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }",
    "set guests6 { type ipv6_addr; }",
    "set judged { type ifname; }",
    "set limited4 { type ipv4_addr . ipv4_addr; }",
    "map egress4 { type ipv4_addr : classid; }",
    "map egress_local { type ifname . ipv6_addr : classid; }",
    "set rejected_egress4 { type ipv4_addr; flags dynamic; size 9; counter; }",
    "set to4 { type classid . ipv4_addr . inet_proto . inet_service; flags interval; }",
)
PLAIN = (
    Element("inet", "port4", ("tcp", "8080"), ("172.19.0.2", "80")),
    Element("inet", "port4", ("sctp", "65535"), ("172.19.0.3", "1")),
    Element("inet", "port6_on", ("fd00::2", "udp", "53"), ("fd00::3", "54")),
    Element("inet", "guests6", ("fd00::2",)),
    Element("inet", "judged", ('"netns0"',)),
    Element("inet", "limited4", ("172.19.0.2", "172.19.0.2")),
    Element("inet", "egress4", ("172.19.0.2",), ("0:1",)),
    Element("inet", "egress4", ("172.19.0.3",), ("fffe:ffff",)),
    Element("inet", "egress_local", ('"fifteen-letters"', "fe80::1"), ("1a:2b",)),
)
BOX = Element("inet", "to4", ("0:1", "10.0.0.0-10.0.0.9", "tcp", "80"))


def test_elements_of_hashes_are_those_of_libnftables(host: Host) -> None:
    with ExitStack() as stack:
        with entered(host.here.netns):
            nft, netlink = Nft(), stack.enter_context(Netlink(NETLINK_NETFILTER))
        types = nft_elements.types_in(DECLARED)
        assert "to4" not in types  # intervals are no hashes

        def change(verb: str, *elements: Element) -> None:
            messages = nft_elements.encoded(verb, elements, types)
            assert messages is not None
            nft_elements.carry_out(netlink, messages)

        def there() -> object:
            return nft.listing("inet", "watcher")

        with pytest.raises(NotThere):
            change("add", *PLAIN)
        nft.run(f"table inet watcher {{ {'; '.join(DECLARED)}; }}")
        empty = there()
        nft.run(commands("add", PLAIN))
        full = there()
        assert full != empty
        change("destroy", *PLAIN)
        assert there() == empty
        change("destroy", *PLAIN)  # nothing to do
        change("add", *PLAIN)
        change("add", *PLAIN)
        assert there() == full
        # One transaction: all or nothing.
        with pytest.raises(NftError):
            change(
                "add", Element("inet", "guests6", ("fd00::9",)), PLAIN[6]._replace(value=("0:2",))
            )
        assert there() == full
        nft.run("add element inet watcher rejected_egress4 { 172.19.0.2 }\n")
        change("destroy", Element("inet", "rejected_egress4", ("172.19.0.2",)))
        assert there() == full


@pytest.mark.parametrize(
    "element",
    [
        BOX,
        Element("inet", "unknown", ("1",)),
        Element("inet", "guests6", ("fd00::/64",)),
        Element("inet", "port4", ("tcp", "80-90"), ("172.19.0.2", "80")),
        Element("inet", "port4", ("tcp", "65536"), ("172.19.0.2", "80")),
        Element("inet", "port4", ("6", "80"), ("172.19.0.2", "80")),
        Element("inet", "port4", ("tcp",), ("172.19.0.2", "80")),
        Element("inet", "guests6", ("fd00::1", "fd00::2")),
        Element("inet", "judged", ('"of-sixteen-bytes"',)),
        Element("inet", "rejected_egress4", ("172.19.0.2 counter packets 1 bytes 0",)),
    ],
)
def test_all_others_are_left_to_libnftables(element: Element) -> None:
    types = nft_elements.types_in(DECLARED)
    assert nft_elements.encoded("add", [PLAIN[0], element], types) is None


def test_what_libnftables_has_to_do_is_done_by_it_with_all_else(host: Host) -> None:
    with ExitStack() as stack:
        with entered(host.here.netns):
            nft, netlink = Nft(), stack.enter_context(Netlink(NETLINK_NETFILTER))
        changes = Changes(nft, netlink)
        with pytest.raises(NotThere):
            changes.run(("add", PLAIN))
        nft.run(f"table inet watcher {{ {'; '.join(DECLARED)}; }}")
        changes.run(("add", (*PLAIN, BOX)))
        with pytest.raises(NftError, match="File exists"):
            changes.run(("add", [PLAIN[6]._replace(value=("0:2",))]))
        changes.run(("destroy", [PLAIN[6]]), ("add", [PLAIN[6]._replace(value=("0:2",))]))
        many = [
            Element("inet", "egress4", (f"10.0.{n >> 8}.{n & 255}",), ("0:1",)) for n in range(4000)
        ]
        changes.run(("add", many))
        assert len(nft.elements("inet", "map", "egress4")) == len(many) + 2
        changes.run(("destroy", many))
        assert len(nft.elements("inet", "map", "egress4")) == 2
