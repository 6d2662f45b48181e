"""A bundle as `runc spec` writes it, with the annotation `io.watcher.share`: that is all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.held import Verb
from tests.support.host import BEYOND, UPLINK, Host, HostMaker
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

SHOWN: Final = "ip address; ip route; ls /sys/class/net; cat /proc/net/if_inet6 /proc/net/route"
"""What a program sees of its network, whichever way it came there."""


def in_web(**more: str) -> dict[str, Any]:
    """The annotations of a bundle that shares the sandbox of `web`."""
    return {"annotations": {"io.watcher.share": "web", **more}}


def test_its_first_instruction_sees_what_one_sees_that_joined_by_path(served: Host) -> None:
    served.attach("web")
    served.bundle("by-path", ["sh", "-c", SHOWN], netns_path=served.netns_dir / "web")
    by_path = served.launch("run", "by-path").stdout
    assert "eth0" in by_path
    assert served.run_to_end("alone", ["sh", "-c", SHOWN], **in_web()).stdout == by_path


@pytest.mark.parametrize("verb", ["run", "create"])
def test_its_first_instruction_reaches_the_other_at_localhost(served: Host, verb: Verb) -> None:
    served.attach("web", ["nc", "-ll", "-p", "80", "-e", "echo", "hello"])
    served.bundle("side", ["sh", "-c", "nc localhost 80 </dev/null; sleep 1000"], **in_web())
    served.launch(verb, "side", *(["--detach"] if verb == "run" else []))
    if verb == "create":
        served.start("side")
    eventually(lambda: served.output("side") == "hello\n")


def test_runc_exec_sees_the_same(served: Host) -> None:
    web = served.attach("web")
    served.run("side", **in_web())
    side = served.attached("side", "shared")
    assert side.place.inode == web.place.inode
    assert f"inet {web.address}/16" in side.exec("ip", "addr").stdout
    assert side.exec("ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]
    row = served.ls()["side"]
    assert (row["address"], row["veth"]) == ([web.address], [web.veth])


def test_its_port_maps_apply_and_go_with_it_alone(served: Host) -> None:
    web = served.attach("web", ports="8080:80")
    web.serve(tcp=(80, 90))
    served.run("side", ports="9090:90", **in_web())
    side = served.attached("side", "shared")
    assert served.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert served.beyond.reach(UPLINK, 9090) == Answer("web", BEYOND)
    served.delete("side")
    served.forgotten("side")
    assert served.beyond.reach(UPLINK, 9090, timeout=LATENCY_FREE_NO) is None
    assert served.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert side.id not in served.ls()


def test_the_members_keep_their_network_when_the_first_one_ends(served: Host) -> None:
    served.attach("web")
    served.run("side", ports="9090:90", **in_web())
    side = served.attached("side", "shared")
    side.serve(tcp=(90,))
    stream = served.beyond.stream(UPLINK, 9090)
    served.delete("web")
    served.forgotten("web")
    assert stream.say("still there") == "still there"
    served.run("third", annotations={"io.watcher.share": "side"})
    assert served.attached("third", "shared").address == side.address
    served.delete("side")
    served.delete("third")
    served.empty()


def test_one_may_share_one_that_shares_and_by_name(served: Host) -> None:
    web = served.attach("web", annotations={"io.watcher.name": "www"})
    shared = {"io.watcher.share": "www", "io.watcher.name": "side-car"}
    served.run("side", annotations=shared)
    served.run("next", annotations={"io.watcher.share": "side-car"})
    served.run("last", annotations={"io.watcher.share": "next"})
    for name in ("side", "next", "last"):
        assert served.attached(name, "shared").place.inode == web.place.inode


def test_thirty_two_at_once_share_one(make_host: HostMaker) -> None:
    served = make_host("[gate]\ntimeout = 60.0\n")
    served.service()
    web = served.attach("web")
    web.serve(tcp=tuple(range(100, 132)))
    names = [f"c{number}" for number in range(32)]
    for number, name in enumerate(names):
        served.bundle(name, ports=f"{9000 + number}:{100 + number}", **in_web())
    launching = [(served.launching("run", name, "--detach"), name) for name in names]
    for process, name in launching:
        served.launched(process, name)
    for number, name in enumerate(names):
        assert served.container(name).place.inode == web.place.inode
        assert served.beyond.reach(UPLINK, 9000 + number) == Answer("web", BEYOND)


def namespaces_of(pid: int) -> set[str]:
    """The network namespaces that a process, in any of its threads, is in or has open."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        links = [task / "ns/net", *(task / "fd").iterdir()]
        found |= {link for link in map(os.readlink, links) if link.startswith("net:")}
    return found


def test_the_namespace_that_was_made_for_it_is_gone(host: Host) -> None:
    service = host.service()
    web = host.attach("web")
    before = eventually(lambda: namespaces_of(service.pid))  # a file may be closed meanwhile
    assert host.run("side", **in_web()).place.inode == web.place.inode
    eventually(lambda: namespaces_of(service.pid) <= before)


def test_it_is_a_member_like_any_other_after_a_restart(host: Host) -> None:
    service = host.service()
    web = host.attach("web")
    host.run("side", ports="9090:90", **in_web())
    host.attached("side", "shared").serve(tcp=(90,))
    service.kill9()
    assert host.watcher("sync").stdout.startswith("unmounted ")
    assert host.watcher("sync").stdout == "nothing to do\n"
    service.start()
    assert host.ls()["side"]["address"] == [web.address]
    assert host.beyond.reach(UPLINK, 9090) == Answer("side", BEYOND)
    assert service.warnings() == []


def test_settings_of_its_bundle_are_those_of_the_shared_namespace(served: Host) -> None:
    web = served.attach("web")

    def set_ttl(spec: dict[str, Any]) -> None:
        spec["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "33"}

    shown = served.run_to_end(
        "side", ["cat", "/proc/sys/net/ipv4/ip_default_ttl"], edit=set_ttl, **in_web()
    )
    assert shown.stdout == "33\n"
    assert web.exec("cat", "/proc/sys/net/ipv4/ip_default_ttl").stdout == "33\n"
