"""The recipes of docs/engines.md for Docker and Podman: `--network none`, and annotations."""

from __future__ import annotations

import pytest

from tests.engines.conftest import EngineMaker
from tests.support.engines import (
    IMAGE,
    WITH_DOCKER,
    DockerHost,
    EngineHost,
    PodmanHost,
    PodmanOnCrunHost,
)
from tests.support.host import BEYOND, GATEWAY, UPLINK
from tests.support.name_service import NameService
from tests.support.traffic import Answer
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("kind", "config"),
    [(DockerHost, WITH_DOCKER), (PodmanHost, ""), (PodmanOnCrunHost, "")],
    ids=["docker", "podman-on-runc", "podman-on-crun"],
)
def test_the_recipe(make_engine: EngineMaker, kind: type[EngineHost], config: str) -> None:
    """The first instruction has its network, ports work, and a restart has the same address."""
    host = make_engine(kind, 'attach = "annotated"\n' + config)
    service = host.service()
    host.beyond.serve(tcp=(80,))
    show = ("sh", "-c", "ip -4 addr show eth0; exec sleep 1000000")
    web = host.run_in_engine("web", "--network", "none", args=show, ports="8080:80")
    web.serve(tcp=(80,))
    assert host.status(web.id) == "attached"
    address = web.address
    assert host.beyond.reach(UPLINK, 8080) == Answer(web.id, BEYOND)
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    eventually(lambda: f"inet {address}/16" in host.engine("logs", "web").stdout)

    host.engine("restart", "--time", "0", "web")
    again = host.container(web.id)
    again.serve(tcp=(80,))
    assert again.address == address
    assert host.beyond.reach(UPLINK, 8080) == Answer(web.id, BEYOND)
    host.engine("stop", "--time", "0", "web")
    host.engine("rm", "web")
    host.empty()
    assert service.warnings() == []


@pytest.mark.parametrize(
    ("kind", "config", "options"),
    [
        (DockerHost, WITH_DOCKER, ("--dns", GATEWAY, "--dns-search", "watcher.internal")),
        (PodmanHost, "", ()),
        (PodmanOnCrunHost, "", ()),
    ],
    ids=["docker", "podman-on-runc", "podman-on-crun"],
)
def test_names_resolve(
    make_engine: EngineMaker, kind: type[EngineHost], config: str, options: tuple[str, ...]
) -> None:
    """From the first instruction; only Docker has a resolv.conf of its own, which has to say so."""
    host = make_engine(kind, config)
    host.service()
    NameService(host).hears()
    web = host.run_in_engine("web", "--network", "none", "--annotation", "io.watcher.name=www")
    for name in ("www", web.id[:12]):
        look_up = (IMAGE, "sh", "-c", f"nslookup {name}")
        done = host.engine("run", "--rm", "--network", "none", *options, *look_up, check=False)
        assert f"Address: {web.address}\n" in done.stdout, done
