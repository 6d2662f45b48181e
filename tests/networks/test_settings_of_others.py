"""Settings of the kernel that others turn off, or that nobody can turn on."""

from __future__ import annotations

import pytest

from tests.support.guarded import in_mode
from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6, Host, HostMaker
from tests.support.tampering import NOTHING
from tests.support.traffic import Answer

READ_ONLY = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"


def put(host: Host, name: str, value: int) -> None:
    host.command("sh", "-c", f"echo {value} > /proc/sys/net/{name}")


@pytest.mark.parametrize("mode", ["bridge", "routed"])
def test_sync_names_each_setting_and_turns_it_on(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode))
    host.beyond.serve(tcp=(80,))
    web = host.attach("web", ports="127.0.0.1:8080:80")
    web.serve(tcp=(80,))
    for name in (
        f"ipv4/conf/{'netns0' if mode == 'bridge' else web.veth}/forwarding",
        "ipv4/ip_forward",
        "ipv6/conf/all/forwarding",
        "ipv6/conf/netns0/forwarding",
        *(("ipv4/conf/netns0/route_localnet",) if mode == "bridge" else ()),
    ):
        put(host, name, 0)
        dry = host.watcher("sync", "--dry-run").stdout
        assert name in dry
        assert name in host.watcher("sync").stdout
        assert host.watcher("sync").stdout == NOTHING
        assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
        assert web.reach(BEYOND6, 80) == Answer("beyond", UPLINK6)
        assert host.here.reach("127.0.0.1", 8080) is not None


def test_a_dry_run_names_once_what_several_networks_need(make_host: HostMaker) -> None:
    host = make_host('[network.front]\nbridge = "front0"\nsubnets = ["172.21.0.0/24"]\n')
    host.attach("web", annotations={"io.watcher.network": "default,front"})
    put(host, "ipv4/ip_forward", 0)
    dry = host.watcher("sync", "--dry-run").stdout
    assert dry.count("ip_forward") == 1
    assert host.watcher("sync").stdout == dry


def test_a_new_bridge_forwards_where_new_interfaces_do_not(host: Host) -> None:
    put(host, "ipv4/ip_forward", 1)
    put(host, "ipv4/conf/default/forwarding", 0)
    host.beyond.serve(tcp=(80,))
    assert host.attach("web").reach(BEYOND, 80) == Answer("beyond", UPLINK)


@pytest.mark.parametrize("holds", [True, False])
def test_a_read_only_proc_sys_is_enough_where_all_is_set(host: Host, *, holds: bool) -> None:
    for name in ("ipv4/ip_forward", "ipv4/conf/default/route_localnet"):
        put(host, name, int(holds))
    host.command("sh", "-ec", READ_ONLY)
    host.beyond.serve(tcp=(80,))
    if not holds:
        host.run("web")
        assert "/proc/sys/net/ipv4/ip_forward" in host.watcher("sync", check=False).stderr
        return
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert host.here.reach("127.0.0.1", 8080) is not None
    assert host.watcher("sync").stdout == NOTHING
