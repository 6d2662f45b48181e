"""Connecting while a service runs that knows less, is slow, is stopped, or does the same."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.config.test_reload import reload
from tests.support.connected import BACK, FRONT, INNER, defaults, is_right, on, refused, server
from tests.support.host import BEYOND, GATEWAY, UPLINK, Host
from tests.support.tampering import lose_store
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker


def test_a_network_that_the_service_has_not_taken_yet(make_host: HostMaker) -> None:
    """It is in the file, but nobody has reloaded the service."""
    host = make_host()
    host.beyond.serve(tcp=(80,))
    service, web = host.service(), host.attach("web")
    host.configure(BACK)
    host.watcher("connect", "web", "back")
    host.watcher("disconnect", "web", "default")
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    web.place.run("ip", "link", "delete", "eth1")
    eventually(lambda: web.reach(BEYOND, 80, timeout=0.5) == Answer("beyond", UPLINK))
    host.nft("flush", "ruleset")
    eventually(lambda: web.reach(BEYOND, 80, timeout=0.5) == Answer("beyond", UPLINK))
    host.attach("other")
    eventually(lambda: is_right(host))
    assert "Traceback" not in service.log_text()
    assert service.warnings() == []


def test_without_a_service_a_network_that_no_sync_has_seen(make_host: HostMaker) -> None:
    host = make_host()
    host.beyond.serve(tcp=(80,))
    web = host.attach("web")
    host.configure(BACK)
    host.watcher("connect", "web", "back")
    host.watcher("disconnect", "web", "default")
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    is_right(host)


@pytest.mark.parametrize("serves", [True, False])
def test_a_network_that_leaves_the_configuration_stays_while_it_is_used(
    alone: Host, *, serves: bool
) -> None:
    live, service = alone, alone.service() if serves else None
    web, db = live.attach("web"), server(live, "db", "back")
    live.watcher("connect", "web", "back")
    if service is not None:
        reload(live, service, FRONT + INNER)
    live.configure(FRONT + INNER)
    assert web.reach(db.address, 80) == Answer("db", on(web, "eth1"))
    is_right(live)
    live.delete("db")
    live.forgotten("db")
    is_right(live)
    live.watcher("disconnect", "web", "back")
    assert "there is no such network" in refused(live, "connect", "web", "back")
    live.watcher("network", "rm", "back")
    if service is not None:
        service.restart()  # until then, its rules know the network
    is_right(live)


def test_many_commands_at_once(live: Host) -> None:
    """One after the other has its turn, and nobody's is lost."""
    names = ("a", "b", "c")
    boxes = [live.attach(name) for name in names]
    commands = [(name, network) for name in names for network in ("front", "back", "inner")]
    with ExitStack() as opened:
        running = [
            opened.enter_context(
                live.popen(
                    live.watcher_command("connect", *command),
                    env=live.watcher_env,
                    stdout=subprocess.PIPE,
                )
            )
            for command in commands
        ]
        said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(commands)
    assert all(line.startswith("eth") for line in said)
    for box in boxes:
        assert box.place.links() == {"lo", "eth0", "eth1", "eth2", "eth3"}
        assert sorted(live.ls()[box.id]["network"]) == ["back", "default", "front", "inner"]
    eventually(lambda: is_right(live))


def test_of_the_same_command_twice_at_once_one_is_refused(live: Host) -> None:
    live.attach("web")
    with ExitStack() as opened:
        running = [
            opened.enter_context(
                live.popen(
                    live.watcher_command("connect", "web", "back"),
                    env=live.watcher_env,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
            )
            for _ in range(2)
        ]
        said = [process.communicate(timeout=60)[1] for process in running]
    assert sorted(process.returncode for process in running) == [0, 1]
    assert "it is connected already" in "".join(said)
    eventually(lambda: is_right(live))


def test_containers_start_and_end_meanwhile(alone: Host) -> None:
    service, web = alone.service(), alone.attach("web")
    web.serve(tcp=(80,))
    stream = alone.here.stream(web.address, 80)
    for number in range(5):
        alone.run(f"c{number}", annotations={"io.watcher.network": "back"})
        alone.watcher("connect", "web", "back")
        alone.delete(f"c{number}")
        alone.watcher("disconnect", "web", "back")
    assert stream.say("still") == "still"
    assert defaults(web) == [(GATEWAY, "eth0")]
    eventually(lambda: set(alone.ls()) == {"web"} and is_right(alone))
    assert service.warnings() == []


def test_a_store_that_is_lost_beside_it(alone: Host) -> None:
    """The service puts back what it knows; the command has its turn after that."""
    alone.service()
    web, db = alone.attach("web"), server(alone, "db", "back")
    alone.watcher("connect", "web", "back")
    lose_store(alone)
    eventually(lambda: alone.ls()["web"]["network"] == ["default", "back"])
    assert web.reach(db.address, 80) == Answer("db", on(web, "eth1"))
    alone.watcher("disconnect", "web", "back")
    assert web.place.links() == {"lo", "eth0"}
    eventually(lambda: is_right(alone))


@pytest.mark.parametrize("serves", [True, False])
def test_down_takes_everything(alone: Host, *, serves: bool) -> None:
    live, service = alone, alone.service() if serves else None
    web = live.attach("web", ports="8080:80")
    live.watcher("connect", "web", "back")
    live.watcher("connect", "web", "inner")
    live.watcher("disconnect", "web", "default")
    if service is not None:
        service.stop()
    live.watcher("down")
    assert web.place.links() == {"lo"}
    assert live.veths() == set()
    assert {"back0", "inner0", "netns0"} & live.here.links() == set()
    live.watcher("sync")  # what it asked for at its start
    assert web.place.links() == {"lo", "eth0"}
