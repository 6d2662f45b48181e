"""Host ports that are chosen: reached, shown, within the limits, and kept as long as it lives."""

from __future__ import annotations

import pytest

from tests.support.chosen import chosen, copies, listening
from tests.support.host import (
    BEYOND,
    BEYOND6,
    GATE_OFF,
    UPLINK,
    UPLINK6,
    Container,
    Host,
    HostMaker,
)  # fmt: skip
from tests.support.tampering import lose_store
from tests.support.traffic import Answer
from tests.support.waiting import eventually

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
FEW = '[root.limits]\nhost_ports = ["9000-9002"]\n'


def test_it_is_reached_in_both_families_by_the_same_number(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web = host.attach("web", ports="80,80/udp")
    web.serve(tcp=(80,), udp=(80,))
    tcp, udp = chosen(host, "web")
    assert 49152 <= tcp <= 65535
    assert 49152 <= udp <= 65535
    assert host.beyond.reach(UPLINK, tcp) == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK6, tcp) == Answer("web", BEYOND6)
    assert host.beyond.reach(UPLINK, udp, "udp") == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK6, udp, "udp") == Answer("web", BEYOND6)
    assert host.here.reach("127.0.0.1", tcp) is not None


def test_it_is_in_ls_inspect_and_the_log(host: Host) -> None:
    service = host.service()
    host.attach("web", ports="8080:80,80")
    ports = host.ls()["web"]["ports"]
    assert ports[0] == "8080:80/tcp"
    assert ports[1].endswith(":80/tcp")
    assert host.inspect("web")["port_maps"] == ports
    assert service.logged("attached", "web")["ports"] == ports


def test_bundle_check_says_that_it_will_be_chosen(host: Host) -> None:
    host.bundle("web", ports="8080:80,80,53/udp")
    said = host.watcher("bundle", str(host.bundles / "web"), "--check").stdout
    assert "ports 8080:80/tcp; a free host port for 80/tcp; a free host port for 53/udp" in said


def stays(host: Host, web: Container) -> None:
    """Its port is as at first, and leads to it, for a client that had it before as well."""
    web.serve(tcp=(80,))
    (port,) = chosen(host, "web")
    stream = host.beyond.stream(UPLINK, port)
    assert stream.say("before") == "before"
    for _ in range(2):
        host.watcher("sync")
        assert chosen(host, "web") == [port]
    lose_store(host)
    done = host.watcher("sync", "--dry-run").stdout
    assert "put web back" in done
    assert chosen(host, "web") != [port]
    done = host.watcher("sync").stdout
    assert "put web back [web]: the lease store did not have it" in done.splitlines()
    assert "attached" not in done
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert chosen(host, "web") == [port]
    assert stream.say("after") == "after"
    assert host.beyond.reach(UPLINK, port) == Answer("web", BEYOND)


def test_it_stays_without_a_service(host: Host) -> None:
    stays(host, host.attach("web", ports="80"))
    host.delete("web")
    host.watcher("sync")
    assert copies(host) == []
    host.empty()


def test_it_stays_when_the_service_is_restarted_killed_or_loses_its_store(host: Host) -> None:
    service = host.service()
    web = host.attach("web", ports="80")
    web.serve(tcp=(80,))
    ports = chosen(host, "web")
    service.restart()
    assert chosen(host, "web") == ports
    service.kill9()
    service.start()
    assert chosen(host, "web") == ports
    lose_store(host)
    service.logged("opened the lease store anew")
    eventually(lambda: chosen(host, "web") == ports)
    service.stop()
    lose_store(host)
    service.start()
    assert chosen(host, "web") == ports
    assert host.beyond.reach(UPLINK, ports[0]) == Answer("web", BEYOND)
    host.delete("web")
    host.empty()
    eventually(lambda: copies(host) == [])


def test_a_member_that_asks_for_one_and_goes(host: Host) -> None:
    """It is the member's, whoever made the sandbox; its founder may go before it."""
    host.attach("web", ports="8080:80").serve(tcp=(80, 81))
    side = host.share("side", "web", ports="81")
    (port,) = chosen(host, "side")
    assert chosen(host, "web") == [8080]
    assert host.beyond.reach(UPLINK, port) == Answer("web", BEYOND)
    lose_store(host)
    host.watcher("sync")
    assert chosen(host, "side") == [port]
    assert chosen(host, "web") == [8080]
    host.delete("web")
    host.watcher("sync")
    lose_store(host)
    host.watcher("sync")
    assert chosen(host, "side") == [port]
    side.serve(tcp=(82,))
    host.delete("side")
    host.empty()


def test_one_that_ended_while_the_store_was_lost_is_taken_back(host: Host) -> None:
    host.attach("web", ports="80")
    host.share("side", "web", ports="81")
    host.attach("other", ports="80")
    before = chosen(host, "web"), chosen(host, "other")
    lose_store(host)
    host.delete("side")
    host.delete("other")
    host.watcher("sync")
    assert (chosen(host, "web"), "side" in host.ls()) == (before[0], False)
    assert len(copies(host)) == 1
    assert host.watcher("sync").stdout == "nothing to do\n"


@pytest.mark.parametrize("harm", ["garbage", "empty", "another's"])
def test_a_copy_that_cannot_be_true_is_not_believed(host: Host, harm: str) -> None:
    host.attach("web", ports="80")
    file = host.run_dir / "sandboxes" / copies(host)[0]
    texts = {
        "garbage": "{]",
        "empty": "",
        "another's": file.read_text().replace('"start":', '"start":1'),
    }
    file.write_text(texts[harm])
    lose_store(host)
    host.watcher("sync")
    assert len(chosen(host, "web")) == 1
    assert len(copies(host)) == 1
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_a_copy_that_is_removed_or_changed_is_mended(host: Host) -> None:
    host.attach("web", ports="80")
    (name,) = copies(host)
    file = host.run_dir / "sandboxes" / name
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    right = file.read_text()
    for harm in (file.unlink, lambda: file.write_text("{}")):
        harm()
        assert "wrote the copy of the sandbox [web]" in host.watcher("sync").stdout
        assert file.read_text() == right
    (file.parent / "stray").write_text(right)
    assert "removed the copy stray" in host.watcher("sync").stdout
    assert copies(host) == [name]
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_a_network_that_is_configured_no_more_is_told(make_host: HostMaker) -> None:
    extra = '[network.front]\nbridge = "front0"\nsubnets = ["10.7.0.0/24"]\n'
    host = make_host(extra)
    host.attach("web", ports="80", annotations={"io.watcher.network": "front"})
    lose_store(host)
    host.configure()
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert 'there is no network "front" any more' in done.stderr


def test_one_whose_files_cannot_be_read_has_its_port_still(host: Host) -> None:
    web = host.attach("web", ports="80")
    web.serve(tcp=(80,))
    (port,) = chosen(host, "web")
    state = host.root / "web/state.json"
    right = state.read_text()
    lose_store(host)
    state.write_text("{")
    assert "put web back" in host.watcher("sync", check=False).stdout
    assert host.beyond.reach(UPLINK, port) == Answer("web", BEYOND)
    state.write_text(right)
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert chosen(host, "web") == [port]


def test_down_removes_the_copies(host: Host) -> None:
    host.attach("web", ports="80")
    host.watcher("down")
    assert not host.run_dir.exists()


# --- which one -------------------------------------------------------------------------------


def test_it_is_within_the_limits_and_neither_taken_nor_listened_on(make_host: HostMaker) -> None:
    host = make_host(FEW)
    with listening(host, 9001):
        host.attach("one", ports="80")
        host.attach("two", ports="80")
        assert sorted(chosen(host, "one") + chosen(host, "two")) == [9000, 9002]
        host.run("late", ports="80")
        host.watcher("sync", check=False)
        reason = host.fails("late")
        assert "no host port of 9000-9002 is free for 80/tcp" in reason
        assert "limits.host_ports" in reason
    host.delete("late")
    host.attach("three", ports="80")
    assert chosen(host, "three") == [9001]


def test_many_at_once(make_host: HostMaker) -> None:
    """A sync attaches them in one transaction; each has a port of its own."""
    host = make_host('[root.limits]\nhost_ports = ["9000-9011"]\n')
    for number in range(12):
        host.run(f"c{number}", ports="80")
    host.watcher("sync")
    assert sorted(port for n in range(12) for port in chosen(host, f"c{n}")) == [*range(9000, 9012)]


@pytest.mark.parametrize("limits", ["host_ports = []", 'host_addresses = ["127.0.0.1"]'])
def test_limits_that_allow_none(make_host: HostMaker, limits: str) -> None:
    host = make_host(f"[root.limits]\n{limits}\n{GATE_OFF}")
    host.run("web", ports="80")
    host.watcher("sync", check=False)
    reason = host.fails("web")
    assert "io.watcher.ports = " in reason
    assert "the limits of root" in reason


def test_a_network_that_publishes_nothing(make_host: HostMaker) -> None:
    host = make_host("[network.default]\ninternal = true\n" + GATE_OFF)
    host.run("web", ports="80")
    host.watcher("sync", check=False)
    assert "80/tcp" in host.fails("web")
    assert "internal" in host.fails("web")
