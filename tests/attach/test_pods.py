"""Pods: a container without annotation, and annotated ones in its namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.attach.test_ignored import with_links
from tests.support.host import BEYOND, GATE_OFF, UPLINK, Host, HostMaker
from tests.support.host.watched import toml
from tests.support.traffic import Answer
from tests.support.waiting import eventually

BACK = '[network.default]\n[network.back]\nbridge = "netns1"\nsubnets = ["172.22.0.0/24"]\n'


@pytest.fixture(params=["service", "sync"])
def kept(request: pytest.FixtureRequest, make_host: HostMaker) -> Host:
    """A host whose root attaches annotated containers alone, with a service or with syncs."""
    host = make_host('attach = "annotated"\n' + BACK)
    if request.param == "service":
        host.service()
    return host


def join(host: Host, name: str, of: str, *, settled: bool = True, **bundle: Any) -> None:
    """Runs a container in the namespace of another one, as engines do it."""
    host.run(name, netns_path=f"/proc/{host.pid(of)}/ns/net", **bundle)
    if settled:
        host.settle()


def test_the_first_member_that_asks_gives_the_pod_its_network(kept: Host) -> None:
    pause = kept.run("pause")
    join(kept, "plain", "pause")
    assert kept.status("pause") == kept.status("plain") == "ignored"

    asked = {"io.watcher.network": "back", "io.watcher.ip": "172.22.0.9"}
    asked["io.watcher.sysctl"] = '{"net.ipv4.conf.eth0.arp_notify": "1"}'
    join(kept, "web", "pause", ports="8080:80", annotations=asked)
    web = kept.attached("web", "shared")
    web.serve(tcp=(80,))
    assert web.address == "172.22.0.9"
    assert web.exec("cat", "/proc/sys/net/ipv4/conf/eth0/arp_notify").stdout == "1\n"
    assert kept.veths() == {pause.veth}
    assert kept.status("pause") == "attached"
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert kept.attached("plain", "shared").address == web.address
    assert kept.watcher("sync").stdout == "nothing to do\n"

    join(kept, "second", "pause", ports="8081:80")
    assert kept.attached("second", "shared").address == web.address
    assert kept.beyond.reach(UPLINK, 8081) == Answer("web", BEYOND)


def test_the_pause_container_keeps_the_network(kept: Host) -> None:
    """A member that comes back finds it as it was; the last to go takes it along."""
    pause = kept.run("pause")
    asked = {"io.watcher.network": "back"}
    join(kept, "web", "pause", ports="8080:80", annotations=asked)
    address = kept.attached("web", "shared").address
    before = pause.place.picture()
    kept.delete("web")
    kept.forgotten("web")
    assert pause.place.picture() == before
    assert kept.beyond.reach(UPLINK, 8080, timeout=0.2) is None

    join(kept, "web", "pause", ports="8080:80", annotations=asked)
    kept.attached("web", "shared").serve(tcp=(80,))
    assert pause.address == address
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)

    kept.kill("pause")  # nobody deletes it: its end alone has to be noticed
    kept.delete("web")
    kept.empty()


def test_a_bundle_says_that_it_would_give_its_pod_a_network(make_host: HostMaker) -> None:
    host = make_host('attach = "annotated"\n')
    pause = host.run("pause")
    bundle = host.bundle("web", netns_path=f"/proc/{pause.pid}/ns/net", ports="8080:80")
    said = host.watcher("bundle", str(bundle), "--check").stdout
    assert "with pause, which gets eth0 in network default with 172.19.0.2" in said
    host.command("ip", "route", "add", "172.19.8.0/24", "via", "192.0.2.1")
    done = host.watcher("bundle", str(bundle), "--check", check=False)
    assert done.returncode == 1
    assert "overlaps the host's own route 172.19.8.0/24" in done.stderr
    assert pause.place.links() == {"lo"}


def test_a_member_finds_its_network_at_its_first_instruction(make_host: HostMaker) -> None:
    host = make_host('attach = "annotated"\n')
    host.service()
    pause = host.run("pause")
    done = host.run_to_end(
        "web", ["ip", "-4", "addr", "show", "eth0"],
        netns_path=f"/proc/{pause.pid}/ns/net", annotations={"io.watcher.network": "default"},
    )  # fmt: skip
    assert f"inet {pause.address}/16" in done.stdout


def test_a_later_member_that_contradicts_is_refused(make_host: HostMaker) -> None:
    host = make_host('attach = "annotated"\n' + BACK)
    host.service()
    pause = host.run("pause")
    join(host, "web", "pause", annotations={"io.watcher.network": "back"})
    before = pause.place.picture()
    for key, value in (("network", "default"), ("ip", "172.22.0.77"), ("mac", "02:00:00:00:00:09")):
        host.bundle(
            "other",
            netns_path=f"/proc/{pause.pid}/ns/net",
            annotations={f"io.watcher.{key}": value},
        )
        assert host.launch("run", "other", "--detach", check=False).returncode != 0
        assert f'io.watcher.{key} = "{value}": it is in the sandbox of pause' in host.fails("other")
    assert pause.place.picture() == before
    join(host, "same", "pause", annotations={"io.watcher.network": "back"})
    host.attached("same", "shared")


@pytest.mark.parametrize("alone", ["all", "without the member"])
@pytest.mark.parametrize("lost", ["service", "store"])
def test_a_pod_is_the_same_after(make_host: HostMaker, lost: str, alone: str) -> None:
    """A restart, or the loss of the lease store, even where only the pause container is left."""
    host = make_host('attach = "annotated"\n' + BACK)
    service = host.service()
    pause = host.run("pause")
    join(host, "aaa", "pause")
    join(host, "web", "pause", ports="8080:80", annotations={"io.watcher.network": "back"})
    host.run("plain")
    host.attached("web", "shared")
    if alone != "all":
        host.delete("web")
        host.forgotten("web")
    before, picture = host.ls(), pause.place.picture()
    service.kill9()
    if lost == "store":
        for file in host.state_dir.iterdir():
            file.unlink()
    service.start()
    assert pause.place.picture() == picture
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert host.ls() == before


def lonely(host: Host) -> None:
    host.run("pause", annotations={"io.watcher.network": "none"})


def connected(host: Host) -> None:
    host.run("pause", edit=with_links("eth0"))


@pytest.mark.parametrize("pause", [lonely, connected])
def test_a_founder_that_is_somebody_else_s_stays_as_it_is(
    make_host: HostMaker, pause: Callable[[Host], None]
) -> None:
    host = make_host('attach = "annotated"\n')
    service = host.service()
    pause(host)
    before = host.container("pause").place.picture()
    join(host, "web", "pause", ports="8080:80")
    assert host.status("web") == "ignored"
    assert "pause" in host.inspect("web")["reason"] or pause is lonely
    assert host.container("pause").place.picture() == before
    assert host.leftovers() == []
    service.logged('"ignored"', '"web"')
    assert [entry["event"] for entry in service.warnings()] == ["ignored"]


@pytest.mark.parametrize("share", ["none", "root", "any"])
def test_a_root_founds_only_where_it_may_share(make_host: HostMaker, share: str) -> None:
    """The founder is in another root than the member, whose limits say whether that may be."""
    host = make_host('attach = "annotated"\n')
    other = host.base / "other"
    host.configure(
        f'attach = "annotated"\n[[root]]\npath = {toml(str(other))}\nattach = "annotated"\n'
        f'limits = {{ share = "{share}" }}\n'
    )
    host.service()
    pause = host.run("pause")
    host.bundle("web", netns_path=f"/proc/{pause.pid}/ns/net", ports="8080:80")
    done = host.launch("run", "web", "--detach", root=other, check=False)
    if share == "any":
        assert done.returncode == 0
        assert host.status("pause") == "attached"
        assert host.status("web") == "shared"
        host.runc("delete", "--force", "web", root=other)
        return
    assert done.returncode != 0
    assert f"limits.share = {share}" in host.inspect("web")["reason"]
    assert pause.place.links() == {"lo"}
    assert host.leftovers() == []


def test_a_pod_that_cannot_be_made_leaves_nothing(make_host: HostMaker) -> None:
    host = make_host('attach = "annotated"\n' + GATE_OFF)
    pause = host.run("pause")
    host.attach("first", annotations={"io.watcher.ip": "172.19.0.9"}, ports="8080:80")
    first = host.container("first")
    join(host, "web", "pause", settled=False, ports="8080:80")
    assert "8080" in host.fails("web")
    assert host.status("pause") == "ignored"
    assert host.veths() == {first.veth}
    eventually(lambda: pause.place.links() == {"lo"})
    host.delete("first")
    host.watcher("sync")
    host.attached("web", "shared")
