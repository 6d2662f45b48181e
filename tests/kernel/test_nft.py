"""What libnftables has read ahead: it is not read again, and what others change is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from handlers.kernel.nft import Nft, NotThere
from tests.support.traffic import entered

if TYPE_CHECKING:
    from tests.support.host import Host

TABLE: Final = """
table inet watcher {
    set bridges { type ifname; }
    set some { type ipv4_addr; }
}
"""
NOTHING: Final = 'destroy element inet watcher bridges { "lo" }\n'
ADD: Final = "add element inet watcher some { 192.0.2.1 }\n"
ASKED_FOR_SETS: Final = "| 02570 |"
"""NFT_MSG_GETSET of NFNL_SUBSYS_NFTABLES, as libmnl prints it."""


class Observed(Nft):
    """Prints the messages of a command to the kernel."""

    def reads(self, commands: str) -> bool:
        """Carries out `commands`; returns whether it has read the sets for that."""
        before = self._context.set_debug("mnl")
        try:
            return ASKED_FOR_SETS in self._call(commands)
        finally:
            self._context.set_debug(before)


@pytest.fixture
def nft(host: Host) -> Observed:
    with entered(host.here.netns):
        return Observed()


def test_what_was_read_ahead_is_not_read_again(nft: Observed) -> None:
    nft.run(TABLE)
    assert nft.reads(ADD)
    nft.read_ahead(NOTHING)
    assert not nft.reads(ADD.replace("2.1", "2.2"))
    assert nft.reads(ADD.replace("2.1", "2.3"))
    nft.read_ahead(NOTHING)
    nft.listing("inet", "watcher")
    nft.read_ahead(NOTHING)
    assert not nft.reads(ADD.replace("2.1", "2.4"))


def test_what_others_change_after_it_was_read_ahead_is_seen(host: Host, nft: Observed) -> None:
    nft.run(TABLE)
    nft.read_ahead(NOTHING)
    host.command("nft", "delete set inet watcher some")
    with pytest.raises(NotThere):
        nft.run(ADD)
    nft.read_ahead(NOTHING)
    host.command("nft", "add set inet watcher some { type ipv4_addr; }")
    nft.run(ADD)
    assert "192.0.2.1" in host.command("nft", "list set inet watcher some").stdout


def test_to_read_ahead_changes_nothing(host: Host, nft: Observed) -> None:
    nft.read_ahead(NOTHING)
    assert host.command("nft", "list ruleset").stdout == ""
    nft.run(TABLE)
    nft.read_ahead(NOTHING)
    assert nft.listing("inet", "watcher") is not None
    assert '"lo"' not in host.command("nft", "list ruleset").stdout
