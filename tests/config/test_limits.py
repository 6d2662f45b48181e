"""Limits of a root: what annotations of its containers may not ask for is an invalid request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.host import BEYOND, GATE_OFF, UPLINK, Host, toml
from tests.support.traffic import Answer

if TYPE_CHECKING:
    from tests.support.host import HostMaker

FRONT = '[network.front]\nbridge = "front0"\nsubnets = ["172.21.0.0/24"]\n'
MAC = "02:42:ac:13:07:32"


def limited(make_host: HostMaker, limits: str, more: str = "") -> Host:
    """A host whose root has these limits."""
    return make_host(f"[root.limits]\n{limits}\n{GATE_OFF}{more}")


def refused(host: Host, name: str, key: str, *words: str, **bundle: Any) -> None:
    """A container that asks for what is not allowed has no network, and it is said why."""
    host.run(name, **bundle)
    reason = host.fails(name)
    for word in (f"io.watcher.{key}", f"the limits of root {host.root} do not allow it", *words):
        assert word in reason
    assert host.container(name).place.links() == {"lo"}
    host.delete(name)
    assert host.leftovers() == []


@pytest.mark.parametrize("ports", ["80:80", "7999:80", "8990-9010:80-100", "8080:80,9000:80/udp"])
def test_host_ports(make_host: HostMaker, ports: str) -> None:
    host = limited(make_host, 'host_ports = ["8000-8999", "53"]')
    refused(host, "bad", "ports", "use a host port of 8000-8999, 53-53", ports=ports)
    web = host.attach("web", ports="8999:80,53:80/udp")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8999) == Answer("web", BEYOND)


def test_no_host_ports_at_all(make_host: HostMaker) -> None:
    host = limited(make_host, "host_ports = []")
    refused(host, "bad", "ports", "use a host port of none", ports="8080:80")
    host.attach("web")


@pytest.mark.parametrize("ports", ["8080:80", "0.0.0.0:8080:80", "192.0.2.2:8080:80", "[::1]:1:80"])
def test_host_addresses(make_host: HostMaker, ports: str) -> None:
    host = limited(
        make_host,
        'host_addresses = ["127.0.0.1"]',
        '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n',
    )
    refused(host, "bad", "ports", "use a host address of 127.0.0.1", ports=ports)
    web = host.attach("web", ports="127.0.0.1:8080:80")
    web.serve(tcp=(80,))
    assert host.here.reach("127.0.0.1", 8080) is not None


def test_host_addresses_with_a_wildcard(make_host: HostMaker) -> None:
    host = limited(make_host, 'host_addresses = ["0.0.0.0"]')
    refused(host, "bad", "ports", ports="8080:80")
    host.attach("web", ports="0.0.0.0:8080:80")


def test_host_addresses_with_both_wildcards(make_host: HostMaker) -> None:
    host = limited(make_host, 'host_addresses = ["0.0.0.0", "::"]')
    host.attach("web", ports="8080:80")


def test_networks(make_host: HostMaker) -> None:
    host = limited(make_host, 'networks = ["front"]', FRONT)
    refused(host, "by-default", "network", '"default"', "name one of front")
    both = {"io.watcher.network": "front,default"}
    refused(host, "both", "network", '"default"', annotations=both)
    host.attach("web", annotations={"io.watcher.network": "front"})
    assert host.ls()["web"]["network"] == ["front"]


@pytest.mark.parametrize(("key", "value"), [("ip", "172.19.0.50"), ("mac", MAC)])
def test_fixed(make_host: HostMaker, key: str, value: str) -> None:
    host = limited(make_host, "fixed = false")
    refused(host, "bad", key, value, annotations={f"io.watcher.{key}": value})
    host.attach("web")


@pytest.mark.parametrize(
    ("share", "same", "other"),
    [("any", "shared", "shared"), ("root", "shared", "failed"), ("none", "failed", "failed")],
)
def test_share(make_host: HostMaker, share: str, same: str, other: str) -> None:
    host = make_host()
    elsewhere = host.base / "elsewhere"
    host.configure(f'limits.share = "{share}"\n[[root]]\npath = {toml(str(elsewhere))}\n{GATE_OFF}')
    host.attach("web")
    for name in ("same", "other"):
        host.bundle(name, netns_path=host.netns_dir / "web")
    host.launch("run", "same", "--detach")
    host.watcher("sync", check=False)
    assert host.status("same") == same

    # The other way round, for the limits are those of the root of the one that joins.
    host.bundle("theirs")
    host.launch("run", "theirs", "--detach", root=elsewhere)
    host.watcher("sync", check=False)
    host.bundle("other", netns_path=host.netns_dir / "theirs")
    host.launch("run", "other", "--detach")
    done = host.watcher("sync", check=False)
    assert host.status("other") == other
    if other == "failed":
        assert f"root {host.root} may not join that sandbox; it has limits.share = {share}" in (
            done.stderr
        )


def test_a_sidecar_has_the_limits_of_its_own_root(make_host: HostMaker) -> None:
    host = limited(make_host, 'host_ports = ["8000-8999"]')
    host.attach("web", ports="8080:80")
    host.run("sidecar", netns_path=host.netns_dir / "web", ports="9000:81")
    assert "8000-8999" in host.fails("sidecar")
    host.delete("sidecar")
    host.share("sidecar", "web", ports="8081:81")


def test_each_root_has_limits_of_its_own(make_host: HostMaker) -> None:
    host = make_host()
    free = host.base / "free"
    host.configure(f"limits.host_ports = []\n[[root]]\npath = {toml(str(free))}\n{GATE_OFF}")
    host.bundle("free", ports="8080:80")
    host.launch("run", "free", "--detach", root=free)
    host.run("bound", ports="8081:80")
    done = host.watcher("sync", check=False)
    assert (host.status("free"), host.status("bound")) == ("attached", "failed")
    assert "free" not in done.stderr.replace(str(free), "")


def test_what_is_not_allowed_does_not_start(make_host: HostMaker) -> None:
    host = make_host("limits.fixed = false\n")
    service = host.service()
    host.bundle("bad", annotations={"io.watcher.ip": "172.19.0.50"})
    assert host.launch("run", "bad", "--detach", check=False).returncode == 1
    service.logged("refused", "bad", "io.watcher.ip", "do not allow it")
    assert host.leftovers() == []


def test_limits_bind_those_who_appear_and_nobody_before(make_host: HostMaker) -> None:
    host = make_host()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    host.configure("limits.host_ports = []\n")
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_they_bind_nobody_before_where_the_lease_store_is_lost_either(make_host: HostMaker) -> None:
    host = make_host()
    asked = {"io.watcher.ip": "172.19.7.7", "io.watcher.ports": "8080:80"}
    host.attach("web", annotations=asked).serve(tcp=(80,))
    stream = host.beyond.stream(UPLINK, 8080)
    host.configure("limits.host_ports = []\nlimits.fixed = false\n")
    host.command("sh", "-c", f"rm {host.state_dir}/*")
    assert host.watcher("sync", "--dry-run").stdout.startswith("attached web")
    host.watcher("sync")
    assert host.leases() == {"172.19.7.7": "web"}
    assert stream.say("still there") == "still there"


def test_a_refusal_is_forgotten_with_its_container(make_host: HostMaker) -> None:
    host = limited(make_host, "host_ports = []")
    refused(host, "bad", "ports", ports="8080:80")
    assert host.watcher("sync").stderr == ""
