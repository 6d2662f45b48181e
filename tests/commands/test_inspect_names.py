"""What `watcher inspect` tells of a container and DNS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker

NETWORKS: Final = """\
[names]
domain = "c.example"
servers = ["192.0.2.53"]
[network.in]
bridge = "in0"
subnets = ["172.22.0.0/24"]
internal = true
[network.mute]
bridge = "mute0"
subnets = ["172.23.0.0/24"]
names = false
[network.open]
bridge = "open0"
subnets = ["172.24.0.0/24"]
guard = false
"""


def dns(host: Host, id_: str, /, **annotations: str) -> dict[str, Any]:
    """What is told of a new container."""
    host.run(id_, annotations={f"io.watcher.{key}": value for key, value in annotations.items()})
    found: dict[str, Any] = host.inspect(id_)["dns"]
    return found


def test_what_a_container_is_called_and_whom_it_asks(make_host: HostMaker) -> None:
    host = make_host(f'limits.names = ["w*"]\n{NETWORKS}')
    host.service()

    web = dns(host, "Web.1", name="www", network="default,in,mute")
    bases = [
        f"{name}{rest}"
        for name in ("www", "web.1")
        for rest in ("", ".c.example", ".default.c.example", ".in.c.example")
    ]
    assert web["names"] == bases
    assert web["hostname"] == "runc"  # as `runc spec` writes it
    assert (web["asks"], web["servers"]) == ("[names] servers", ["192.0.2.53"])

    assert web["resolv_conf"] == f"{host.run_dir}/resolv/default.conf"

    assert dns(host, "db")["names"] == []  # its root may not call it so
    own = dns(host, "w", dns="198.51.100.1,2001:db8::1")
    assert (own["asks"], own["servers"]) == ("io.watcher.dns", ["198.51.100.1", "2001:db8::1"])
    # Without guard, who asks could be anybody of the network.
    assert dns(host, "w2", dns="198.51.100.1", network="open")["servers"] == ["192.0.2.53"]
    inside = dns(host, "w3", network="in")
    assert (inside["asks"], inside["servers"]) == ("nobody: its networks are internal", [])
    mute = dns(host, "w4", network="mute")
    assert (mute["names"], mute["asks"], mute["servers"]) == ([], "", [])
    assert mute["resolv_conf"] is None


def test_a_changed_configuration_is_shown_before_it_is_taken(served: Host) -> None:
    served.attach("web")
    served.configure("[network.default]\nconnections = 100\n")
    assert served.inspect("web")["limits"][0]["connections"] == 100
