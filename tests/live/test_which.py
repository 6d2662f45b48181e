"""Which container a command means, where others are called alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected import is_right, refused

if TYPE_CHECKING:
    from tests.support.host import Host

NONE = {"io.watcher.network": "none"}
COMMANDS = (
    ("connect", "back"),
    ("disconnect", "default"),
    ("publish", "9000:80"),
    ("unpublish", "8080:80"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("alike", ["beginning", "name"])
def test_one_without_a_network_is_not_mistaken_for_another(
    live: Host, command: tuple[str, str], alike: str
) -> None:
    """`watcher inspect` and these commands mean the same container."""
    verb, what = command
    named = {"io.watcher.name": "web"} if alike == "name" else {}
    name = "web-2" if alike == "beginning" else "other"
    other = live.attach(name, ports="8080:80", annotations=named)
    live.run("web", annotations=NONE)
    before = (other.place.picture(), live.ls()[name]["ports"])
    assert live.inspect("web")["id"] == "web"
    assert 'container "web" has no network: it is ignored' in refused(live, verb, "web", what)
    assert (other.place.picture(), live.ls()[name]["ports"]) == before
    assert is_right(live)


def test_several_that_begin_alike(live: Host) -> None:
    live.attach("web-2")
    live.run("web-1", annotations=NONE)
    said = refused(live, "publish", "web", "9000:80")
    assert '"web" is the beginning of 2 containers: web-1, web-2' in said
    assert is_right(live)


def test_one_that_its_runtime_has_forgotten(alone: Host) -> None:
    """The files of its root are gone, and it still runs."""
    alone.attach("web")
    alone.command("mv", str(alone.root / "web"), str(alone.base / "kept"))
    for text in ("web", "we"):
        alone.watcher("publish", text, "9000:80")
        alone.watcher("unpublish", text, "9000:80")
    alone.command("mv", str(alone.base / "kept"), str(alone.root / "web"))
    assert is_right(alone)
