"""Limits that stay: without the lease store, through a reload, and for those who come later."""

from __future__ import annotations

from signal import SIGCONT, SIGHUP, SIGSTOP

import pytest

from tests.config.test_reload import refusal, reload
from tests.support.host import BEYOND, Container, Host, HostMaker
from tests.support.tampering import NOTHING, lose_store

ASKED = {"io.watcher.egress": f"{BEYOND}:443/tcp"}
GATE = '[gate]\nmode = "required"\n'
WALLED = f"""
[network.walled]
bridge = "walled0"
subnets = ["172.22.0.0/24"]
egress = ["{BEYOND}:443"]
"""


def is_held(container: Container) -> bool:
    """Whether it reaches what its list has, and nothing else."""
    assert container.reach(BEYOND, 443) is not None
    return container.reach(BEYOND, 80, timeout=0.5) is None


def test_they_stay_without_the_lease_store(host: Host) -> None:
    host.beyond.serve(tcp=(80, 443))
    alone = host.attach("alone", annotations=ASKED)
    host.attach("founder", annotations=ASKED)
    heir = host.share("heir", "founder")
    host.delete("founder")
    host.settle()
    assert is_held(heir)
    lose_store(host)
    host.watcher("sync")
    assert is_held(alone)
    assert is_held(heir), "nobody's annotations tell what the founder asked for"

    second = host.share("second", "alone")
    lose_store(host)
    copies = f"{host.run_dir}/sandboxes"
    host.delete("heir")
    host.command("rm", "-r", copies)
    host.watcher("sync")
    assert is_held(second)
    assert host.watcher("sync").stdout == NOTHING


def test_a_reload_changes_what_networks_allow_and_what_roots_force(make_host: HostMaker) -> None:
    host = make_host(GATE + WALLED)
    service = host.service()
    host.beyond.serve(tcp=(80, 443))
    inside = host.attach("inside", annotations={"io.watcher.network": "walled"})
    free = host.attach("free")
    assert is_held(inside)
    assert not is_held(free)
    reload(host, service, f'[root.limits]\npolicy = "walled"\n{GATE}{WALLED}')
    assert is_held(host.attach("forced"))
    assert not is_held(free), "it keeps what it has"
    reload(host, service, f"{GATE}{WALLED.replace('443', '80-443')}")
    assert inside.reach(BEYOND, 80) is not None
    assert Container(host, "forced").reach(BEYOND, 80) is not None, "the network's list is another"
    reload(host, service, GATE + WALLED)
    reload(host, service, GATE)
    host.delete("inside")
    service.restart()
    assert is_held(Container(host, "forced")), "though the network is in nobody's configuration"
    done = host.watcher("network", "rm", "walled", check=False)
    assert "is in use by forced" in done.stderr


def test_who_was_attached_by_a_newer_configuration_stays_held(make_host: HostMaker) -> None:
    host = make_host(f'attach = "annotated"\n{GATE}')
    service = host.service()
    host.beyond.serve(tcp=(80, 443))
    host.bundle("web")
    host.launch("run", "web", "--detach")
    host.configure(f'[root.limits]\npolicy = "walled"\n{GATE}{WALLED}')
    host.watcher("sync")
    web = Container(host, "web")
    assert is_held(web)
    host.command("nft", "flush", "ruleset")
    service.logged("repaired")
    assert is_held(web), "the service does not know the network"


@pytest.mark.parametrize("refused", [{"io.watcher.egress": "any:443/tcp"}])
def test_who_asks_for_more_than_the_sandbox_has_is_not_let_in(
    host: Host, refused: dict[str, str]
) -> None:
    host.service()
    host.attach("web")
    host.bundle("side", netns_path=host.netns_dir / "web", annotations=refused)
    done = host.launch("run", "side", "--detach", check=False)
    assert done.returncode != 0
    assert "it is in the sandbox of web, which has no such limit" in done.stderr


def test_a_configuration_that_would_let_go_of_a_sandbox_is_refused(make_host: HostMaker) -> None:
    policed = '[network.default]\nsubnets = ["172.19.0.0/16"]\negress = ["any"]\n'
    host = make_host(policed)
    service = host.service()
    alone = host.attach("alone", annotations={"io.watcher.ingress": "none"})
    neighbour = host.attach("neighbour")
    alone.serve(tcp=(80,))
    host.configure(policed.replace('egress = ["any"]\n', ""))
    service.signal(SIGHUP)
    assert "network.default was changed while alone is held to a list there" in refusal(service)
    assert neighbour.reach(alone.address, 80) is None
    host.configure(f"{policed}guard = false\n".replace('egress = ["any"]\n', ""))
    assert "with guard = false" in host.watcher("sync", check=False).stderr
    host.delete("alone")
    reload(host, service, policed.replace('egress = ["any"]\n', ""))


def test_a_policy_that_would_let_go_of_a_sandbox_elsewhere_is_refused(make_host: HostMaker) -> None:
    forced = f'[root.limits]\npolicy = "walled"\n{GATE}{WALLED}'
    host = make_host(f'{forced}ingress = ["any"]\n')
    service = host.service()
    host.attach("web")
    host.configure(f'{forced}ingress = ["any", "!network"]\n')
    service.signal(SIGHUP)
    said = "network.walled was changed while web is held to its lists in network default"
    assert said in refusal(service)
    done = host.watcher("sync", check=False)
    assert said in done.stderr
    host.delete("web")
    reload(host, service, f'{forced}ingress = ["any", "!network"]\n')


def test_one_that_has_just_ended_is_in_the_way_of_no_change(make_host: HostMaker) -> None:
    """Its end comes to a busy service together with the order to read the configuration."""
    policed = '[network.default]\negress = ["any"]\n'
    host = make_host(policed)
    service = host.service()
    alone = host.attach("alone", annotations={"io.watcher.ingress": "none"})
    service.signal(SIGSTOP)
    host.command("kill", "-KILL", str(alone.pid))
    host.configure(policed.replace('egress = ["any"]\n', ""))
    service.signal(SIGHUP)
    service.signal(SIGCONT)
    service.logged("configuration taken")
    assert service.warnings() == []
