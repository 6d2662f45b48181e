"""A held init is moved into the network namespace of another container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.held import Verb, own_mount, runc
from tests.support.mover import Mover
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host import Host

SHOWS_NETNS = ("ls", "-l", "/proc/self/ns/net")


@pytest.fixture
def root(host: Host) -> Path:
    """The root of `host`, a mount of its own."""
    return own_mount(host, host.root)


@pytest.mark.parametrize("verb", ["run", "create"])
def test_its_program_starts_in_the_other_namespace(host: Host, root: Path, verb: Verb) -> None:
    web = host.run("web")
    host.bundle("side", SHOWS_NETNS)
    with Mover(host, root) as mover, runc(host, verb, "side") as process:
        assert mover.move("side", web.pid)["error"] == ""
        assert process.wait(PATIENCE) == 0
        if verb == "create":
            host.start("side")
        eventually(lambda: f"net:[{web.place.inode}]" in host.output("side"))
