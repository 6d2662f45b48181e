"""A process that moves itself into a namespace of its own making.

A container without any capability may make a user namespace, and in that a network namespace in
which it has them all. What it had before stays where it was, and so does what others have.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.bundles import FOREVER
from tests.support.host import BEYOND, GATE_OFF, UPLINK, Container, Host
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.bundles import Spec
    from tests.support.host import HostMaker

MOVED: Final = ("busybox", "unshare", "-U", "-r", "-n", *FOREVER)
"""A program that makes itself a user and a network namespace, and then sleeps."""


def as_nobody(spec: Spec) -> None:
    """Without any capability, and as a user who may become root of a namespace of his own."""
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    spec["process"]["capabilities"] = {}


def netns_of_init(container: Container) -> int:
    """The number of the namespace that its init is in by now."""
    return container.host.seen(Path(f"/proc/{container.pid}/ns/net")).stat().st_ino


def looked_at_again(host: Host, name: str) -> None:
    """Has the service look at a container, as any change of its directory does."""
    with (host.root / name / "state.json").open("a"):
        pass


def test_the_network_does_not_follow_init(host: Host) -> None:
    service = host.service()
    web = host.create("web", MOVED, ports="8080:80", edit=as_nobody)
    web.serve(tcp=(80,))
    before = web.place.inode
    row = host.ls()["web"]
    host.start("web")
    eventually(lambda: netns_of_init(web) != before)

    looked_at_again(host, "web")
    service.logged("web", "has left its network namespace", level="warning")
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert host.place("web").links() == {"lo"}
    assert host.ls()["web"] == row
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    for _ in range(3):
        looked_at_again(host, "web")
    host.attach("other")
    assert str(service.log()).count("has left its network namespace") == 1

    host.delete("web")
    host.delete("other")
    host.empty()


def test_a_restart_and_a_lost_store_make_no_difference(host: Host) -> None:
    service = host.service()
    web = host.create("web", MOVED, edit=as_nobody)
    before = web.place.inode
    host.start("web")
    eventually(lambda: netns_of_init(web) != before)
    service.restart()
    assert host.place("web").links() == {"lo"}
    assert web.place.links() == {"lo", "eth0"}

    service.stop()
    host.command("sh", "-c", f"rm {host.state_dir}/*")
    host.watcher("sync")
    assert host.place("web").links() == {"lo"}


def test_a_namespace_of_its_own_making_gets_nothing_at_the_first_look(host: Host) -> None:
    """Without a service it is moved before anybody looks."""
    web = host.create("web", MOVED, edit=as_nobody)
    host.start("web")
    eventually(lambda: netns_of_init(web) != web.place.inode)
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert host.place("web").links() == {"lo"}
    assert host.ls()["web"]["status"] == "ignored"
    assert "its runtime made" in host.ls()["web"]["reason"]
    assert host.leftovers() == []


def test_nor_one_within_a_user_namespace_of_the_bundle(host: Host) -> None:
    web = host.create("web", MOVED, edit=as_nobody, user_namespace=True)
    host.start("web")
    eventually(lambda: netns_of_init(web) != web.place.inode)
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert host.ls()["web"]["status"] == "ignored"
    assert host.leftovers() == []


def test_a_container_with_a_user_namespace_has_its_network(make_host: HostMaker) -> None:
    for host in (make_host(), make_host(GATE_OFF)):
        host.service()
        host.attach("web", user_namespace=True)
