"""`watcher publish` and `unpublish`: ports of a container that runs, by real packets."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import pytest

from tests.support.chosen import chosen, copies, listening
from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6, Container, Host, HostMaker
from tests.support.pictures import difference, take
from tests.support.tampering import lose_store
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.processes import Done

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
PROTOCOLS: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")


def serving(host: Host, name: str = "web", ports: str = "") -> Container:
    """A container with servers of either protocol on its ports 80 to 82."""
    container = host.attach(name, **({"ports": ports} if ports else {}))
    container.serve(tcp=(80, 81, 82), udp=(80, 81, 82))
    return container


def refused(host: Host, *args: str, status: int = 1) -> str:
    """What a command says that changes nothing on the host, in one line."""
    before = take(host)
    done: Done = host.watcher(*args, check=False)
    assert done.returncode == status, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (found := difference(take(host), before)), found
    return done.stderr


def unreached(host: Host, port: int, protocol: Literal["tcp", "udp"] = "tcp") -> bool:
    """Whether nobody answers at a port of the host."""
    return host.beyond.reach(UPLINK, port, protocol, timeout=0.3) is None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_port_is_published_and_taken_back(kept: Host, protocol: Literal["tcp", "udp"]) -> None:
    serving(kept)
    done = kept.watcher("publish", "web", f"8080:80/{protocol}")
    assert done.stdout == f"8080:80/{protocol}\n"
    assert kept.beyond.reach(UPLINK, 8080, protocol) == Answer("web", BEYOND)
    assert kept.here.reach("127.0.0.1", 8080, protocol) is not None
    assert kept.ls()["web"]["ports"] == [f"8080:80/{protocol}"]
    assert kept.inspect("web")["port_maps"] == [f"8080:80/{protocol}"]
    assert kept.watcher("sync").stdout == "nothing to do\n"
    done = kept.watcher("unpublish", "web", f"8080:80/{protocol}")
    assert done.stdout == f"8080:80/{protocol}\n"
    assert unreached(kept, 8080, protocol)
    assert kept.ls()["web"]["ports"] == []
    assert kept.watcher("sync").stdout == "nothing to do\n"
    kept.delete("web")
    kept.empty()


def test_several_in_both_families_with_commas_or_without(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    serving(host)
    said = host.watcher("publish", "web", "8080:80,8081:81", f"{UPLINK}:9000-9002:80-82/udp").stdout
    assert said == f"8080:80/tcp\n8081:81/tcp\n{UPLINK}:9000-9002:80-82/udp\n"
    assert host.beyond.reach(UPLINK6, 8081) == Answer("web", BEYOND6)
    assert host.beyond.reach(UPLINK, 9002, "udp") == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK6, 9002, "udp", timeout=0.3) is None


def test_the_json_list_of_cni(host: Host) -> None:
    serving(host)
    text = json.dumps([{"hostPort": 8080, "containerPort": 80}])
    assert host.watcher("publish", "web", text).stdout == "8080:80/tcp\n"
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_a_free_port_is_chosen_printed_and_the_same_the_next_time(kept: Host) -> None:
    serving(kept)
    (first, second) = kept.watcher("publish", "web", "80", "80/udp").stdout.splitlines()
    port = int(first.removesuffix(":80/tcp"))
    assert re.fullmatch(r"\d+:80/udp", second)
    assert kept.beyond.reach(UPLINK, port) == Answer("web", BEYOND)
    assert kept.watcher("publish", "web", "80").stdout == f"{first}\n"
    assert kept.ls()["web"]["ports"] == [first, second]
    assert kept.watcher("unpublish", "web", "80").stdout == f"{first}\n"
    assert kept.ls()["web"]["ports"] == [second]


def test_what_is_there_already_stays(kept: Host) -> None:
    """Also the connections by it; and of a range only what is missing is new."""
    serving(kept, ports="8080:80")
    stream = kept.beyond.stream(UPLINK, 8080)
    assert stream.say("before") == "before"
    assert kept.watcher("publish", "web", "8080:80").stdout == "8080:80/tcp\n"
    assert kept.watcher("publish", "web", "8079-8082:79-82").stdout == "8079-8082:79-82/tcp\n"
    assert stream.say("after") == "after"
    assert kept.beyond.reach(UPLINK, 8081) == Answer("web", BEYOND)
    assert kept.ls()["web"]["ports"] == ["8079-8082:79-82/tcp"]
    assert kept.watcher("publish", "web", "8080:80,8082:82").returncode == 0
    assert kept.watcher("sync").stdout == "nothing to do\n"
    assert stream.say("still") == "still"


def test_a_part_of_a_range_and_of_the_annotations_is_taken_back(kept: Host) -> None:
    serving(kept, ports="8080-8082:80-82,9000:80")
    stream = kept.beyond.stream(UPLINK, 8081)
    assert stream.say("before") == "before"
    assert kept.watcher("unpublish", "web", "8081:81", "9000:80").returncode == 0
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert kept.beyond.reach(UPLINK, 8082) == Answer("web", BEYOND)
    assert unreached(kept, 8081)
    assert unreached(kept, 9000)
    assert stream.say("after") == "after", "a connection that is there goes on"
    assert kept.ls()["web"]["ports"] == ["8080:80/tcp", "8082:82/tcp"]
    assert kept.watcher("sync").stdout == "nothing to do\n"
    (shown,) = kept.ls()["web"]["ports"][1:]
    kept.watcher("unpublish", "web", shown)
    assert kept.ls()["web"]["ports"] == ["8080:80/tcp"]


def test_a_long_range_is_split(kept: Host) -> None:
    """It is one element of nftables, and then two."""
    web = kept.attach("web", ports="20000-20999:20000-20999")
    web.serve(tcp=(20000, 20500, 20999, 21500))
    kept.watcher("unpublish", "web", "20500:20500")
    assert unreached(kept, 20500)
    for port in (20000, 20999):
        assert kept.beyond.reach(UPLINK, port) == Answer("web", BEYOND)
    kept.watcher("publish", "web", "20000-21999:20000-21999")
    for port in (20000, 20500, 20999, 21500):
        assert kept.beyond.reach(UPLINK, port) == Answer("web", BEYOND)
    assert kept.ls()["web"]["ports"] == ["20000-21999:20000-21999/tcp"]
    assert kept.watcher("sync").stdout == "nothing to do\n"


def test_udp_flows_end_and_go_where_the_port_leads_now(kept: Host) -> None:
    serving(kept, ports="8080:80/udp,8081:81/udp")
    serving(kept, "other")
    asking, beside = kept.beyond.datagrams(UPLINK, 8080), kept.beyond.datagrams(UPLINK, 8081)
    with asking, beside:
        assert asking.ask() == Answer("web", BEYOND)
        assert beside.ask() == Answer("web", BEYOND)
        kept.watcher("unpublish", "web", "8080:80/udp")
        kept.watcher("publish", "other", "8080:80/udp")
        assert asking.ask() == Answer("other", BEYOND)
        assert beside.ask() == Answer("web", BEYOND)


# --- how long it lasts -----------------------------------------------------------------------


def test_it_stays_whatever_happens_and_ends_with_the_container(host: Host) -> None:
    service = host.service()
    serving(host, ports="8080:80,8081:81")
    host.watcher("publish", "web", "9000:82", "82")
    host.watcher("unpublish", "web", "8081:81")
    ports = host.ls()["web"]["ports"]
    assert len(ports) == 3
    stream = host.beyond.stream(UPLINK, 9000)
    assert stream.say("before") == "before"

    def is_as_before() -> bool:
        assert host.ls()["web"]["ports"] == ports
        assert host.beyond.reach(UPLINK, 9000) == Answer("web", BEYOND)
        assert unreached(host, 8081)
        assert stream.say("after") == "after"
        return True

    service.restart()
    assert is_as_before()
    service.kill9()
    service.start()
    assert is_as_before()
    lose_store(host)
    service.logged("opened the lease store anew")
    eventually(is_as_before)
    host.command("nft", "delete", "table", "inet", "watcher")
    eventually(is_as_before)
    service.stop()
    lose_store(host)
    assert "put web back" in host.watcher("sync").stdout
    assert is_as_before()
    lose_store(host)
    service.start()
    assert is_as_before()
    host.delete("web")
    host.empty()
    eventually(lambda: copies(host) == [])
    serving(host, ports="8080:80,9001:81")
    assert chosen(host, "web") == [8080, 9001]


def test_it_is_published_as_a_fact(host: Host) -> None:
    serving(host)
    done = host.watcher("--log-level", "debug", "publish", "web", "8080:80")
    assert "published" in done.stderr
    done = host.watcher("--log-level", "debug", "unpublish", "web", "8080:80")
    assert "unpublished" in done.stderr


def test_beside_a_service_that_serves_on(host: Host) -> None:
    """The service sees it as a part of the sandbox: it repairs it, and does not undo it."""
    service = host.service()
    serving(host)
    host.watcher("publish", "web", "8080:80")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    host.attach("other", ports="8081:80")
    assert host.ls()["web"]["ports"] == ["8080:80/tcp"]
    host.bundle("late", ports="8080:80")
    assert host.launch("run", "late", "--detach", check=False).returncode != 0
    host.settle()
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert [e for e in service.log() if e["event"] == "repaired"] == []


def test_in_a_shared_sandbox_it_goes_with_the_named_container(kept: Host) -> None:
    serving(kept, ports="8080:80")
    kept.share("side", "web")
    kept.watcher("publish", "side", "9000:81")
    kept.watcher("publish", "side", "8080:80")
    assert kept.ls()["side"]["ports"] == ["8080:80/tcp", "9000:81/tcp"]
    assert kept.ls()["web"]["ports"] == ["8080:80/tcp"]
    assert kept.beyond.reach(UPLINK, 9000) == Answer("web", BEYOND)
    said = refused(kept, "unpublish", "web", "9000:81")
    assert 'but "side" in its sandbox does; run `watcher unpublish side 9000:81/tcp`' in said
    kept.watcher("unpublish", "web", "8080:80")
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND), "it is side's as well"
    kept.delete("side")
    if not kept.served:
        kept.watcher("sync")
    eventually(lambda: unreached(kept, 9000) and unreached(kept, 8080))


# --- what cannot be --------------------------------------------------------------------------


def test_all_or_none(kept: Host) -> None:
    serving(kept, ports="8080:80")
    serving(kept, "other", ports="8081:80")
    said = refused(kept, "publish", "web", "9000:80", "8081:80", "9001:81")
    assert '8081:80/tcp conflicts with 8081:80/tcp of sandbox "other"' in said
    assert "publish another port of the host" in said
    assert "io.watcher" not in said
    assert unreached(kept, 9000)
    said = refused(kept, "publish", "web", "9000:80", "8080:81")
    assert "of this sandbox" in said
    said = refused(kept, "unpublish", "web", "8080:80", "8081:80")
    assert 'container "web" does not publish 8081:80/tcp; name one of 8080:80/tcp' in said
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_a_port_of_the_host_and_no_port_left(make_host: HostMaker) -> None:
    host = make_host('[root.limits]\nhost_ports = ["9000-9001"]\n')
    serving(host, ports="9000:80")
    with listening(host, 9001, 8080):
        said = refused(host, "publish", "web", "8080:80")
        assert "a process of the host listens on 127.0.0.1 port 8080; stop that process" in said
        said = refused(host, "publish", "web", "81")
        assert "no host port of 9000-9001 is free for 81/tcp" in said
    assert host.watcher("publish", "web", "81").stdout == "9001:81/tcp\n"
    host.watcher("publish", "web", "8080:80")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND), "limits do not bind"


@pytest.mark.parametrize(
    ("config", "map_", "told"),
    [
        ("[network.default]\ninternal = true\n", "8080:80", "its network is internal"),
        ("[network.default]\ninternal = true\n", "80", "its network is internal"),
        ("", "[::1]:8080:80", "its networks have no IPv6 subnet"),
    ],
)
def test_what_its_network_cannot_carry(
    make_host: HostMaker, config: str, map_: str, told: str
) -> None:
    host = make_host(config)
    host.run("web")
    host.watcher("sync")
    assert told in refused(host, "publish", "web", map_)


@pytest.mark.parametrize("map_", ["", "80:", "127.0.0.1:80", "9000-9010", "8080:80,8080:81", "x"])
@pytest.mark.parametrize("command", ["publish", "unpublish"])
def test_what_is_no_port_map(host: Host, command: str, map_: str) -> None:
    host.attach("web")
    said = refused(host, command, "web", map_, status=2)
    assert "io.watcher" not in said
    assert ";" in said


def test_what_is_not_there(host: Host) -> None:
    serving(host, ports="8080:80,8081:80")
    assert "8080:80/tcp, 8081:80/tcp" in refused(host, "unpublish", "web", "80")
    assert "does not publish 81/tcp" in refused(host, "unpublish", "web", "81")
    assert "does not publish 8080:81/tcp" in refused(host, "unpublish", "web", "8080:81")
    assert "does not publish" in refused(host, "unpublish", "web", "8080-8081:80-81")
    host.attach("bare")
    assert "it publishes nothing" in refused(host, "unpublish", "bare", "8080:80")
    assert "there is no container" in refused(host, "publish", "nobody", "8080:80")
    host.run("alone", annotations={"io.watcher.network": "none"})
    host.watcher("sync")
    assert "has no network: it is ignored" in refused(host, "publish", "alone", "8080:80")


def test_one_that_ended_has_the_port_no_more(host: Host) -> None:
    """Its end was not looked at yet, for no service runs."""
    serving(host, "old", ports="8080:80")
    serving(host)
    host.delete("old")
    host.watcher("publish", "web", "8080:80")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_the_host_is_as_it_was_if_a_step_fails(host: Host) -> None:
    """Here the copy of the sandbox cannot be written."""
    serving(host, ports="8080:80")
    (host.run_dir / "sandboxes").write_text("in the way")
    assert "sandboxes" in refused(host, "publish", "web", "9000:80")
    assert host.ls()["web"]["ports"] == ["8080:80/tcp"]
    assert unreached(host, 9000)
    (host.run_dir / "sandboxes").unlink()
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_after_an_upgrade(host: Host) -> None:
    """The lease store is of the version before, and has a container that runs."""
    serving(host, ports="8080:80")
    with closing(sqlite3.connect(host.state_dir / "leases.db")) as store:
        store.execute("DROP INDEX interface_member")
        store.execute("ALTER TABLE interface DROP COLUMN member")
        store.execute("ALTER TABLE sandbox DROP COLUMN kept")
        store.execute("PRAGMA user_version = 5")
        store.commit()
    host.watcher("publish", "web", "9000:81")
    assert host.ls()["web"]["ports"] == ["8080:80/tcp", "9000:81/tcp"]
    host.watcher("unpublish", "web", "8080:80")
    assert host.beyond.reach(UPLINK, 9000) == Answer("web", BEYOND)
    lose_store(host)
    host.watcher("sync")
    assert host.ls()["web"]["ports"] == ["9000:81/tcp"]
    assert host.watcher("sync").stdout == "nothing to do\n"
