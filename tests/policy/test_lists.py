"""Lists that nobody is held to any more: they go before they are many."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from handlers.firewall import lists
from tests.support.dialled import NO, dial
from tests.support.host import BEYOND
from tests.support.tampering import NOTHING
from tests.support.waiting import eventually
from watcher.service.rest import AFTER

if TYPE_CHECKING:
    from tests.support.host import Host

ENTRIES: Final = 120


def entries(number: int) -> str:
    """A list like no other, of so many prefixes."""
    some = (f"100.{number}.{n}.0/24:{n + 1}/tcp" for n in range(ENTRIES))
    return ",".join((f"{BEYOND}:443/tcp", *some))


def listed(host: Host) -> int:
    """How many boxes of lists there are in the table."""
    for entry in host.nft_list():
        found = entry.get("set", {})
        if found.get("name") == "to4":
            return len(found.get("elem", []))
    return 0


def test_they_go_before_they_are_many(served: Host) -> None:
    served.beyond.serve(tcp=(80, 443))
    stays = served.attach("stays", annotations={"io.watcher.egress": entries(0)})
    numbers, few = count(1), lists.LEAST // ENTRIES

    def use(more: int) -> None:
        for number in islice(numbers, more):
            served.run(f"c{number}", annotations={"io.watcher.egress": entries(number)})
            served.delete(f"c{number}")

    def gone() -> bool:
        return listed(served) == 1 + ENTRIES

    use(few + 3)
    try:
        eventually(gone, timeout=3 * AFTER)
    except AssertionError:  # it rested when they were just not enough: then it waits for far more
        use(3 * few)
        eventually(gone)
    # The store forgets them a moment later.
    with closing(sqlite3.connect(served.state_dir / "leases.db")) as store:
        kept = "SELECT count(*) FROM list"
        eventually(lambda: store.execute(kept).fetchone() == (1,), what="one list in the store")
    assert dial(stays, BEYOND, 443) == "open"
    assert dial(stays, BEYOND, 80) in NO
    again = served.attach("again", annotations={"io.watcher.egress": entries(1)})
    assert dial(again, BEYOND, 443) == "open"
    assert dial(again, BEYOND, 80) in NO
    assert served.watcher("sync", "--dry-run").stdout == NOTHING


def test_a_protocol_without_a_name_of_ours_is_found_in_the_table(served: Host) -> None:
    served.attach("one", annotations={"io.watcher.egress": "any,!any/icmp"})
    assert served.watcher("sync", "--dry-run").stdout == NOTHING
