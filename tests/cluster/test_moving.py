"""A fixed address that moves: it is stopped on a host, and started on another one at once."""

from __future__ import annotations

import time
from typing import Final

import pytest
import structlog

from tests.support.cluster.played import addresses
from tests.support.cluster.whole import PORT, Whole
from tests.support.traffic import Answer
from tests.support.waiting import eventually

LOG: Final = structlog.get_logger()


@pytest.mark.parametrize("where", ["in nobody's block", "in the block of c"])
@pytest.mark.parametrize("first", ["it stops", "it starts elsewhere"])
def test_it_is_reached_at_its_new_host_from_all(whole: Whole, where: str, first: str) -> None:
    """The start waits for the release; and it would, even if it began before."""
    address = whole.elsewhere() if where == "in nobody's block" else whole.address_in("c")
    web = whole.starts("a", address, keep=True)
    for number, name in enumerate("bcab"):
        there, id_ = whole[name], f"moved-{number}-{address.replace('.', '-')}"
        there.bundle(id_, annotations={"io.watcher.ip": address})
        if first == "it stops":
            whole.end(web)
            began = time.monotonic()
            runc = there.launching("run", id_, "--detach")
        else:
            runc = there.launching("run", id_, "--detach")
            eventually(there.seen(there.root / id_).exists, what="it is being made")
            whole.end(web)
            began = time.monotonic()
        there.launched(runc, id_)
        web = there.container(id_)
        web.serve(tcp=(PORT,))
        started = time.monotonic()
        for box in whole.boxes.values():
            expected = Answer(id_, addresses(box)[0])
            eventually(lambda: box.reach(address, PORT) == expected)  # noqa: B023
        reached = time.monotonic()
        LOG.info("moved", to=name, started=started - began, reached=reached - started)
        assert there.attached(id_).address == address
        whole.once()
    whole.end(web)
    whole.well()
