"""What others break on a host, `watcher run` mends without being asked."""

from __future__ import annotations

from tests.support.host import BEYOND, UPLINK, Host
from tests.support.traffic import Answer
from tests.support.waiting import eventually


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


def test_what_the_service_itself_does_is_not_looked_at_again(host: Host) -> None:
    """Each of these takes longer than a suspicion waits, so that each would be a sync."""
    service = host.service("--log-level", "debug")
    for number in range(4):
        host.attach("web", ports=f"{8080 + number}:80")
        gone = host.container("web")
        host.delete("web")
        host.gone(gone)
    host.attach("web", ports="8080:80").serve(tcp=(80,))
    host.nft("flush", "map", "inet", "watcher", "port4")
    service.logged("added port4")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    synced = [entry["repairs"] for entry in service.log() if entry["event"] == "synced"]
    assert synced == [0, 1], "at the start, after what others flushed, and no more"
