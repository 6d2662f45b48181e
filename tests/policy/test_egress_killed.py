"""`kill -9` while somebody who is held to a list comes or goes: nothing is open in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.dialled import dial
from tests.support.guarded import in_mode
from tests.support.host import BEYOND, BEYOND6
from tests.support.killer import KILLED, Killer, every_point
from tests.support.tampering import NOTHING
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from tests.support.host import HostMaker

pytestmark = pytest.mark.accident

LIST: Final = f"{BEYOND}:443/tcp,[{BEYOND6}]:443/tcp"


@pytest.mark.parametrize("mode", ["bridge", "routed"])
@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_nothing_is_open_in_between(make_host: HostMaker, verb: str, mode: str) -> None:
    host = make_host(in_mode(mode))
    host.beyond.serve(tcp=(80, 443))
    host.run("keeper")
    limited = host.run("limited", annotations={"io.watcher.egress": LIST})
    away, there = host.base / "away", host.root / "limited"
    killer = Killer(host)

    def change(at: int) -> bool:
        if verb == "attach":
            killer.raze()
        else:
            killer.sync()
            there.rename(away)
        return killer.run("sync", at=at) == KILLED

    def check() -> None:
        for address in (BEYOND, BEYOND6):
            assert dial(limited, address, 80, timeout=LATENCY_FREE_NO) != "open"
        if verb == "detach":
            killer.sync()
            away.rename(there)
        killer.sync()
        for address in (BEYOND, BEYOND6):
            assert dial(limited, address, 443) == "open"
            assert dial(limited, address, 80, timeout=LATENCY_FREE_NO) != "open"
        assert host.watcher("sync", "--dry-run").stdout == NOTHING

    every_point(change, check, step=9)
