"""Beside Docker."""

from __future__ import annotations

import json

from tests.engines.conftest import EngineMaker
from tests.support.engines import IMAGE, WITH_DOCKER, DockerHost
from tests.support.host import BEYOND, SUBNET, UPLINK
from tests.support.traffic import Answer


def test_containers_on_docker_s_own_networks_are_docker_s(docker: DockerHost) -> None:
    """They start and reach each other as ever, while one that asks for both is refused."""
    docker.service()
    theirs = docker.run_in_engine("theirs", "--publish", "9090:90")
    theirs.serve(tcp=(90,))
    assert "another program has given it" in docker.inspect(theirs.id)["reason"]
    assert docker.status(theirs.id) == "ignored"
    assert docker.beyond.reach(UPLINK, 9090) is not None
    assert theirs.place.links() == {"lo", "eth0"}

    done = docker.engine(
        "run", "--detach", "--name", "both", "--annotation", "io.watcher.ports=8080:80", "box",
        "true", check=False,
    )  # fmt: skip
    assert done.returncode != 0
    both = docker.engine("inspect", "--format", "{{.Id}}", "both").stdout.strip()
    assert "--network none" in docker.fails(both)
    assert docker.leftovers() == []


def test_down_takes_nothing_of_docker_s(docker: DockerHost) -> None:
    def rules() -> list[str]:
        return [docker.command("iptables", "-t", table, "-S").stdout for table in ("filter", "nat")]

    theirs = docker.run_in_engine("theirs", "--publish", "9090:90")
    theirs.serve(tcp=(90,))
    links, before = docker.here.links(), rules()
    service = docker.service()
    web = docker.run_in_engine("web", "--network", "none", ports="8080:80")
    assert docker.attached(web.id)
    assert rules() != before
    service.stop()
    docker.watcher("down")

    assert docker.here.links() == links
    assert rules() == before
    assert docker.leftovers() == []
    assert docker.beyond.reach(UPLINK, 9090) is not None
    later = docker.run_in_engine("later", "--publish", "9091:90")
    later.serve(tcp=(90,))
    assert docker.beyond.reach(UPLINK, 9091) is not None
    docker.engine("restart", "--time", "0", "web", "theirs")
    docker.engine("rm", "--force", "web", "theirs", "later")


def test_a_container_in_the_network_of_another_one(make_engine: EngineMaker) -> None:
    """The first of both has no annotation; what the second one's ask for is for both."""
    docker = make_engine(DockerHost, 'attach = "annotated"\n' + WITH_DOCKER)
    docker.service()
    first = docker.run_in_engine("first", "--network", "none")
    second = docker.run_in_engine("second", "--network", "container:first", ports="8080:80")
    second.serve(tcp=(80,))
    assert docker.status(first.id) == "attached"
    assert docker.status(second.id) == "shared"
    assert first.address == second.address
    assert docker.beyond.reach(UPLINK, 8080) == Answer(second.id, BEYOND)

    docker.run_in_engine("theirs")
    lost = docker.run_in_engine("lost", "--network", "container:theirs", ports="8081:80")
    assert docker.status(lost.id) == "ignored"
    assert "to which another program has given" in docker.inspect(lost.id)["reason"]
    docker.engine("rm", "--force", "second", "first")
    docker.empty()


def subnet_of(docker: DockerHost, network: str) -> str:
    """The subnet that Docker has taken for a network that it has just made."""
    docker.engine("network", "create", network)
    found = docker.engine("network", "inspect", "--format", "{{json .IPAM.Config}}", network)
    subnet: str = json.loads(found.stdout)[0]["Subnet"]
    return subnet


def test_docker_takes_no_subnet_of_a_network_that_waits_for_containers(docker: DockerHost) -> None:
    docker.service()
    taken = [subnet_of(docker, f"n{number}") for number in range(3)]
    assert "172.18.0.0/16" in taken
    assert SUBNET not in taken
    docker.attached(docker.run_in_engine("web", "--network", "none", ports="8080:80").id)


def test_a_subnet_that_docker_has_taken_is_docker_s_until_it_is_free(docker: DockerHost) -> None:
    assert SUBNET in [subnet_of(docker, f"n{number}") for number in range(2)]
    theirs = docker.run_in_engine("theirs", "--network", "n1", "--publish", "9090:90")
    theirs.serve(tcp=(90,))
    service = docker.service()
    late = ("run", "--rm", "--network", "none", "--annotation", "io.watcher.ports=8080:80", IMAGE)
    assert docker.engine(*late, "true", check=False).returncode != 0
    told = service.logged("a network refuses containers", level="error")["reason"]
    assert "overlaps the host's own route 172.19.0.0/16 dev br-" in told
    assert docker.beyond.reach(UPLINK, 9090) is not None

    docker.engine("rm", "--force", "theirs")
    docker.engine("network", "rm", "n1")
    service.logged("a network takes containers again")
    assert docker.engine(*late, "true").returncode == 0
