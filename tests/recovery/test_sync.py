"""`watcher sync`: the whole program without a service, and the repair of whatever happened."""

from __future__ import annotations

import json
import threading

import pytest

from tests.support.host import BEYOND, UPLINK, Container, Host
from tests.support.tampering import lose_store
from tests.support.traffic import Answer

NOTHING = "nothing to do\n"


def published(host: Host) -> Container:
    """An attached container with a published port that is served."""
    web = host.run("web", ports="8080:80/tcp,8080:80/udp")
    web.serve(tcp=(80,), udp=(80,))
    host.watcher("sync")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    return web


def test_nothing_is_to_be_done_on_a_host_without_containers(host: Host) -> None:
    assert host.watcher("sync").stdout == NOTHING


def test_containers_that_appeared_get_their_network_and_it_prints_each(host: Host) -> None:
    host.run("web", ports="8080:80")
    host.run("other")
    done = host.watcher("sync")
    assert "web" in done.stdout
    assert "other" in done.stdout
    assert {row["status"] for row in host.ls().values()} == {"attached"}
    assert host.watcher("sync").stdout == NOTHING


def test_things_of_those_that_vanished_go_and_it_prints_each(host: Host) -> None:
    published(host)
    host.delete("web")
    done = host.watcher("sync")
    assert "web" in done.stdout
    assert host.leftovers() == []
    assert host.watcher("sync").stdout == NOTHING


def test_dry_run_only_prints(host: Host) -> None:
    web = host.run("web", ports="8080:80")
    dry = host.watcher("sync", "--dry-run").stdout
    assert "web" in dry
    assert host.here.links() == {"lo", "uplink"}
    assert web.place.links() == {"lo"}
    assert host.leftovers() == []
    assert not list(host.state_dir.glob("leases.db*"))
    assert host.watcher("sync", "--dry-run").stdout == dry

    host.watcher("sync")
    address = web.address
    assert host.watcher("sync", "--dry-run").stdout == NOTHING
    host.delete("web")
    left = host.leftovers()
    assert "web" in host.watcher("sync", "--dry-run").stdout
    assert host.leftovers() == left
    assert host.leases() == {address: "web"}


def test_dry_run_tells_what_sync_does_without_the_database(host: Host) -> None:
    web = host.attach("web", ports="8080:80")
    host.run("sidecar", netns_path=host.netns_dir / "web", ports="8081:81")
    host.watcher("sync")
    lose_store(host)
    dry = host.watcher("sync", "--dry-run").stdout
    assert host.watcher("sync").stdout == dry
    assert "deleted" not in dry
    assert host.leases() == {web.address: "web"}


def test_json_has_one_object_a_repair(host: Host) -> None:
    host.run("web")
    repairs = json.loads(host.watcher("sync", "--json").stdout)
    assert repairs
    for repair in repairs:
        assert set(repair) >= {"what", "sandbox", "why"}
    assert "web" in {repair["sandbox"] for repair in repairs}
    assert json.loads(host.watcher("sync", "--json").stdout) == []


@pytest.mark.parametrize(
    "damage",
    [
        "ip link delete {veth}",
        "ip link set {veth} down",
        "ip link set {veth} nomaster",
        "ip link delete netns0",
        "ip address flush dev netns0",
        "nft flush ruleset",
        "nft delete table inet watcher",
        "umount {pin}",
        "sysctl -q net.ipv4.ip_forward=0",
        "sysctl -q net.ipv4.conf.all.forwarding=0",
        "nsenter --net=/proc/{pid}/ns/net ip link set eth0 down",
        "nsenter --net=/proc/{pid}/ns/net ip route flush dev eth0",
        "nsenter --net=/proc/{pid}/ns/net ip address flush dev eth0",
        "nsenter --net=/proc/{pid}/ns/net ip link delete eth0",
        "nsenter --net=/proc/{pid}/ns/net ip link set lo down",
    ],
)
def test_damage_is_repaired(host: Host, damage: str) -> None:
    web = published(host)
    host.beyond.serve(tcp=(80,))
    address = web.address
    words = {"veth": web.veth, "pin": host.netns_dir / "web", "pid": web.pid}
    host.command(*damage.format(**words).split())

    assert host.watcher("sync").stdout != NOTHING
    assert web.address == address
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK, 8080, "udp") == Answer("web", BEYOND)
    assert host.here.reach("127.0.0.1", 8080) is not None
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert web.reach("127.0.0.1", 80) == Answer("web", "127.0.0.1")
    assert host.pin_inode("web") == web.place.inode
    assert host.watcher("sync").stdout == NOTHING


def test_a_host_that_was_emptied_is_made_again(host: Host) -> None:
    web = published(host)
    address = web.address
    host.command("ip", "link", "delete", "netns0")
    host.command("ip", "link", "delete", web.veth)
    host.command("nft", "flush", "ruleset")
    host.command("umount", str(host.netns_dir / "web"))
    host.command("sh", "-c", f"umount {host.netns_dir}; rm -r {host.netns_dir} {host.run_dir}")
    host.watcher("sync")
    assert web.address == address
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.pin_inode("web") == web.place.inode
    assert host.watcher("sync").stdout == NOTHING


def test_a_lost_lease_store_is_rebuilt_from_what_is_there(host: Host) -> None:
    web = published(host)
    address = web.address
    host.command("sh", "-c", f"rm -r {host.state_dir}")
    stream = host.beyond.stream(UPLINK, 8080)
    host.watcher("sync")
    assert host.leases() == {web.address: "web"}
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert web.address == address
    assert stream.say("hello") == "hello"
    assert host.watcher("sync").stdout == NOTHING


def test_leftovers_of_a_container_that_nobody_remembers_go(host: Host) -> None:
    web = published(host)
    host.command("sh", "-c", f"rm -r {host.state_dir}")
    host.delete("web")
    host.watcher("sync")
    assert web.veth not in host.here.links()
    assert host.leftovers() == []
    assert host.beyond.reach(UPLINK, 8080, timeout=0.3) is None


def test_what_is_not_the_watchers_is_left_alone(host: Host) -> None:
    host.command("ip", "link", "add", "netns1", "type", "bridge")
    host.command("ip", "link", "add", "mine0", "type", "veth", "peer", "name", "mine1")
    host.command(
        "nft", "add table inet mine; add chain inet mine c; add rule inet mine c tcp dport 1 drop"
    )
    host.netns_dir.mkdir()
    host.command(
        "sh", "-c", f"touch {host.netns_dir}/mine && unshare --net={host.netns_dir}/mine true"
    )
    mine = host.pin_inode("mine")
    rules = host.nft("list", "table", "inet", "mine").stdout
    web = published(host)
    host.delete("web")
    host.watcher("sync")
    assert web.veth not in host.here.links()
    assert {"netns1", "mine0", "mine1"} <= host.here.links()
    assert host.nft("list", "table", "inet", "mine").stdout == rules
    assert host.pin_inode("mine") == mine
    host.watcher("down")
    assert {"netns1", "mine0", "mine1"} <= host.here.links()
    assert host.nft("list", "table", "inet", "mine").stdout == rules
    assert host.pin_inode("mine") == mine


def test_beside_a_running_service_it_is_safe(served: Host) -> None:
    """Containers come and go while several syncs run all the time."""
    over = threading.Event()
    failures: list[str] = []

    def sync_all_the_time() -> None:
        while not over.is_set():
            done = served.watcher("sync", check=False)
            if done.returncode != 0 or "Traceback" in done.stderr:
                failures.append(done.stdout + done.stderr)

    threads = [threading.Thread(target=sync_all_the_time) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(3):
            names = [f"c{round_}-{number}" for number in range(3)]
            containers = [served.run(name, ports=f"9{name[-1]}00:80") for name in names]
            for container in containers:
                served.attached(container.id)
                container.serve(tcp=(80,))
            assert len({container.address for container in containers}) == 3
            for container in containers:
                assert served.beyond.reach(UPLINK, int(f"9{container.id[-1]}00")) == Answer(
                    container.id, BEYOND
                )
            for container in containers:
                served.delete(container.id)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    served.empty()


def test_the_service_and_sync_agree(served: Host) -> None:
    served.attach("web", ports="8080:80")
    served.share("sidecar", "web")
    assert served.watcher("sync").stdout == NOTHING
    served.delete("web")
    served.forgotten("web")
    assert served.watcher("sync").stdout == NOTHING


def test_a_pid_that_was_reused_is_not_the_container(host: Host) -> None:
    web = published(host)
    host.kill("web")
    taker = host.command(
        "sh",
        "-c",
        # The next process of this host gets the pid of the one that has ended.
        f"echo {web.pid - 1} > /proc/sys/kernel/ns_last_pid; sleep 1000 >/dev/null 2>&1 & echo $!",
    ).stdout
    assert int(taker) == web.pid

    host.watcher("sync")
    assert host.leftovers() == []
    assert host.status("web") == "exited"
    assert "eth0" not in host.here.links()


def test_a_port_stays_whose_it_is_without_the_lease_store(host: Host) -> None:
    """Also of one who has outlived whom it joined, and where the host listens there by now."""
    host.attach("founder")
    heir = host.share("heir", "founder", ports="8080:80")
    heir.serve(tcp=(80,))
    host.delete("founder")
    host.settle()
    host.here.serve(tcp=(8080,))
    before = host.ls()
    stream = host.beyond.stream(UPLINK, 8080)
    lose_store(host)
    host.watcher("sync")
    assert host.ls() == before
    assert stream.say("still") == "still"
    assert host.beyond.reach(UPLINK, 8080) == Answer("heir", BEYOND)


def test_who_publishes_keeps_it_without_the_lease_store(host: Host) -> None:
    """Though a process of the host listens there by now."""
    host.attach("web", ports="8080:80").serve(tcp=(80,))
    host.here.serve(tcp=(8080,))
    before = host.ls()
    lose_store(host)
    host.watcher("sync")
    assert host.ls() == before
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_of_many_new_containers_those_that_cannot_be_attached_stop_no_other(host: Host) -> None:
    """Whether a port is another's, or a process of the host has it, or a link is in the way."""
    host.run("first", ports="8080:80")
    host.run("second", ports="8080:80")
    host.run("third", ports="8081:80")
    blocked = host.run("blocked", ports="8082:80")
    host.command("ip", "link", "add", blocked.veth, "type", "bridge")

    done = host.watcher("sync", check=False)
    status = {name: row["status"] for name, row in host.ls().items()}
    assert sorted((status["first"], status["second"])) == ["attached", "failed"]
    assert (status["third"], status["blocked"]) == ("attached", "failed")
    assert "8080" in done.stderr
    assert "is in the way" in done.stderr
    assert blocked.place.links() == {"lo"}
    assert sorted(host.leases().values()) == sorted(
        name for name, what in status.items() if what == "attached"
    )

    host.command("ip", "link", "delete", blocked.veth)
    host.watcher("sync", check=False)
    assert host.ls()["blocked"]["status"] == "attached"


def test_many_new_containers_are_attached_though_the_tables_hold_what_is_in_their_way(
    host: Host,
) -> None:
    """An element that nobody has by now, with another value: a transaction for all would fail."""
    kept = host.run("kept", ports="8079:80")
    host.watcher("sync")
    host.run("web", ports="8080:80").serve(tcp=(80,))
    host.run("other", ports="8081:80").serve(tcp=(80,))
    element = "{ tcp . 8080 : 192.0.2.99 . 80 }"
    host.command("nft", f"add element inet watcher port4 {element}")
    host.watcher("sync")
    assert kept.address
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK, 8081) == Answer("other", BEYOND)
    assert host.watcher("sync").stdout == NOTHING
