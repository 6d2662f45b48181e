"""Beside containerd, driven by its own `ctr`."""

from __future__ import annotations

from tests.engines.conftest import EngineMaker
from tests.support.engines import ContainerdHost
from tests.support.host import BEYOND, UPLINK
from tests.support.traffic import Answer
from tests.support.waiting import eventually


def test_the_recipe(make_engine: EngineMaker) -> None:
    """`ctr` gives a container a namespace without network, so annotations are all it takes."""
    containerd = make_engine(ContainerdHost, 'attach = "annotated"\n')
    service = containerd.service()
    containerd.beyond.serve(tcp=(80,))
    show = ("sh", "-c", "ip -4 addr show eth0 > /told; exec sleep 1000000")
    web = containerd.run_in_engine("web", args=show, ports="8080:80")
    web.serve(tcp=(80,))
    assert containerd.status("web") == "attached"
    address = web.address
    assert containerd.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    told = containerd.base / "rootfs/told"
    eventually(lambda: f"inet {address}/16" in told.read_text())

    containerd.engine("task", "kill", "--signal", "KILL", "web")
    eventually(lambda: "STOPPED" in containerd.engine("task", "ls").stdout)
    containerd.engine("task", "rm", "web")
    containerd.empty()
    containerd.engine("task", "start", "--detach", "web")
    again = containerd.container("web")
    again.serve(tcp=(80,))
    assert again.address == address
    assert containerd.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert service.warnings() == []


def test_down_takes_nothing_of_containerd_s(containerd: ContainerdHost) -> None:
    service = containerd.service()
    containerd.run_in_engine("web", ports="8080:80")
    service.stop()
    containerd.watcher("down")
    assert containerd.here.links() == {"lo", "uplink"}
    assert "RUNNING" in containerd.engine("task", "ls").stdout
    containerd.run_in_engine("later")
    assert containerd.engine("task", "ls").stdout.count("RUNNING") == 2
