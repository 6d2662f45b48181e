"""What others break on a host, `watcher run` mends without being asked."""

from __future__ import annotations

from host import BEYOND, UPLINK, Host, eventually
from traffic import Answer


def test_damage_by_others_is_mended_without_being_asked(host: Host) -> None:
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    for damage in (
        "ip link set netns0 down",
        f"ip link set {web.veth} nomaster",
        "nft flush ruleset",
        f"umount {host.netns_dir / 'web'}",
        "ip link delete netns0",
    ):
        host.command(*damage.split())
        eventually(
            lambda: host.beyond.reach(UPLINK, 8080, timeout=0.3) == Answer("web", BEYOND),
            what=f"the repair after {damage}",
        )
        eventually(lambda: host.pin_inode("web") == web.place.inode)
    assert service.running
