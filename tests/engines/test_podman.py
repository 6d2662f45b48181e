"""Beside Podman."""

from __future__ import annotations

from tests.engines.conftest import EngineMaker
from tests.support.engines import IMAGE, PodmanHost, PodmanOnCrunHost
from tests.support.host import BEYOND, UPLINK
from tests.support.traffic import Answer


def test_a_request_that_cannot_be_met_is_refused_on_crun(make_engine: EngineMaker) -> None:
    podman = make_engine(PodmanOnCrunHost)
    podman.service()
    elsewhere = ("--network", "none", "--annotation", "io.watcher.network=elsewhere")
    refused = podman.engine("run", *elsewhere, IMAGE, "true", check=False)
    assert refused.returncode != 0
    podman.empty()


def test_containers_on_podman_s_own_networks_are_podman_s(podman: PodmanHost) -> None:
    """They start and are reached as ever; one that asks for both learns once what to do."""
    service = podman.service()
    theirs = podman.run_in_engine("theirs", "--publish", "9090:90")
    theirs.serve(tcp=(90,))
    assert podman.status(theirs.id) == "ignored"
    assert podman.beyond.reach(UPLINK, 9090) is not None
    assert theirs.place.links() == {"lo", "eth0"}
    assert service.warnings() == []

    both = podman.run_in_engine("both", ports="8080:80")
    assert podman.status(both.id) == "ignored"
    reason = podman.inspect(both.id)["reason"]
    assert "/netns-" in reason
    assert "--network none" in reason
    podman.watcher("sync")
    assert [entry["event"] for entry in service.warnings()] == ["ignored"]
    assert podman.leftovers() == []


def test_down_takes_nothing_of_podman_s(podman: PodmanHost) -> None:
    service = podman.service()
    theirs = podman.run_in_engine("theirs", "--publish", "9090:90")
    theirs.serve(tcp=(90,))
    web = podman.run_in_engine("web", "--network", "none", ports="8080:80")
    assert podman.attached(web.id)
    service.stop()
    podman.watcher("down")

    assert "podman0" in podman.here.links()
    assert "netns0" not in podman.here.links()
    assert podman.leftovers() == []
    assert podman.beyond.reach(UPLINK, 9090) is not None
    later = podman.run_in_engine("later", "--publish", "9091:90")
    later.serve(tcp=(90,))
    assert podman.beyond.reach(UPLINK, 9091) is not None
    podman.engine("restart", "--time", "0", "web", "theirs")


def test_a_pod(make_engine: EngineMaker) -> None:
    """The pause container has no annotation; a member's give the pod its network."""
    podman = make_engine(PodmanHost, 'attach = "annotated"\n')
    service = podman.service()
    pause = podman.pod("shop", "--network", "none")
    assert podman.status(pause.id) == "ignored"
    web = podman.run_in_engine("web", "--pod", "shop", ports="8080:80")
    web.serve(tcp=(80,))
    assert podman.status(pause.id) == "attached"
    assert podman.status(web.id) == "shared"
    address = web.address
    assert podman.beyond.reach(UPLINK, 8080) == Answer(web.id, BEYOND)
    plain = podman.run_in_engine("plain", "--pod", "shop")
    assert podman.attached(plain.id, "shared").address == address

    podman.engine("restart", "--time", "0", "web")
    again = podman.attached(web.id, "shared")
    assert again.address == address
    assert podman.beyond.reach(UPLINK, 8080) == Answer(web.id, BEYOND)
    service.kill9()
    for file in podman.state_dir.iterdir():
        file.unlink()
    service.start()
    assert podman.watcher("sync").stdout == "nothing to do\n"
    assert again.address == address
    assert podman.beyond.reach(UPLINK, 8080) == Answer(web.id, BEYOND)
    podman.engine("pod", "rm", "--force", "--time", "0", "shop")
    podman.empty()
