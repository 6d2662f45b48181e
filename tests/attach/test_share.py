"""Containers that share one network namespace: one sandbox, one network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.host import BEYOND, UPLINK, Host
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually


def test_a_sidecar_shows_the_same_network(kept: Host) -> None:
    web = kept.attach("web")
    sidecar = kept.share("sidecar", "web")

    assert sidecar.place.picture() == web.place.picture()
    assert sidecar.address == web.address
    assert "eth0" in sidecar.exec("ip", "addr").stdout
    assert f"inet {web.address}/16" in sidecar.exec("ip", "addr").stdout
    assert kept.veths() == {web.veth}
    assert kept.leases() == {web.address: "web"}


def test_a_sidecar_reaches_the_first_ones_service_at_localhost(kept: Host) -> None:
    kept.attach("web", ["nc", "-ll", "-p", "80", "-e", "echo", "hello"])
    kept.share("sidecar", "web")
    eventually(
        lambda: (
            kept.container("sidecar").exec("nc", "localhost", "80", check=False).stdout == "hello\n"
        )
    )


def test_a_sidecar_is_listed_as_shared(served: Host) -> None:
    web = served.attach("web")
    served.share("sidecar", "web")
    rows = served.ls()
    assert rows["web"]["status"] == "attached"
    assert rows["sidecar"]["status"] == "shared"
    assert rows["sidecar"]["address"] == rows["web"]["address"]
    assert rows["sidecar"]["veth"] == rows["web"]["veth"] == [web.veth]


def test_port_maps_of_either_apply(kept: Host) -> None:
    web = kept.attach("web", ports="8080:80")
    kept.share("sidecar", "web", ports="9090:90")
    web.serve(tcp=(80, 90))
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert kept.beyond.reach(UPLINK, 9090) == Answer("web", BEYOND)


def test_the_namespace_may_be_named_by_pid_as_well(kept: Host) -> None:
    web = kept.attach("web")
    sidecar = kept.run("sidecar", netns_path=f"/proc/{web.pid}/ns/net")
    kept.attached("sidecar", "shared")
    assert sidecar.address == web.address


def test_the_annotation_may_say_it_as_well(kept: Host) -> None:
    kept.attach("web")
    kept.share("sidecar", "web", annotations={"io.watcher.share": "web"})


def test_the_network_stays_until_the_last_container_has_vanished(kept: Host) -> None:
    web = kept.attach("web", ports="8080:80")
    sidecar = kept.share("sidecar", "web", ports="9090:90")
    sidecar.serve(tcp=(90,))
    kept.beyond.serve(tcp=(80,))
    before = sidecar.place.picture()
    stream = kept.beyond.stream(UPLINK, 9090)

    kept.kill("web")
    kept.delete("web")
    kept.forgotten("web")

    assert sidecar.place.picture() == before
    assert stream.say("still there") == "still there"
    assert kept.beyond.reach(UPLINK, 9090) == Answer("sidecar", BEYOND)
    assert sidecar.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert kept.here.reach(sidecar.address, 90) is not None
    assert kept.veths() == {web.veth}

    kept.delete("sidecar")
    kept.empty()


def test_port_maps_end_with_the_container_that_asked_for_them(kept: Host) -> None:
    web = kept.attach("web")
    sidecar = kept.share("sidecar", "web", ports="9090:90")
    web.serve(tcp=(90,))
    assert kept.beyond.reach(UPLINK, 9090) == Answer("web", BEYOND)

    kept.delete("sidecar")
    kept.forgotten("sidecar")
    assert kept.beyond.reach(UPLINK, 9090, timeout=LATENCY_FREE_NO) is None
    assert kept.here.reach(web.address, 90) is not None
    assert sidecar.id not in kept.pins()


def test_a_port_map_of_both_stays_until_the_last_of_them_has_vanished(kept: Host) -> None:
    def vanish(name: str) -> None:
        kept.delete(name)
        kept.forgotten(name)

    kept.attach("web", ports="8080:80")
    kept.share("sidecar", "web", ports="8080:80")
    kept.share("other", "web").serve(tcp=(80,))
    vanish("web")
    assert kept.beyond.reach(UPLINK, 8080) == Answer("other", BEYOND)
    vanish("sidecar")
    assert kept.beyond.reach(UPLINK, 8080, timeout=LATENCY_FREE_NO) is None


def test_a_third_container_joins_after_the_first_has_gone(kept: Host) -> None:
    web = kept.attach("web")
    address = web.address
    kept.share("second", "web")
    kept.delete("web")
    kept.forgotten("web")

    third = kept.share("third", "second")
    assert third.address == address
    kept.delete("second")
    kept.forgotten("second")
    assert third.address == address
    assert kept.ls()["third"]["status"] in ("attached", "shared")
    kept.delete("third")
    kept.empty()


def test_the_first_ones_id_used_again_is_a_sandbox_of_its_own(kept: Host) -> None:
    old = kept.attach("web", ports="8080:80")
    sidecar = kept.share("sidecar", "web")
    sidecar.serve(tcp=(80,))
    address = old.address
    kept.delete("web")
    kept.settle()

    new = kept.attach("web", ports="8080:80")
    new.serve(tcp=(80,))
    assert new.address != address
    assert sidecar.address == address
    assert kept.pin_inode("web") == new.place.inode
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert new.reach(address, 80) == Answer("sidecar", new.address)

    kept.delete("sidecar")
    kept.settle()
    eventually(lambda: kept.veths() == {new.veth})
    eventually(lambda: kept.pins() == {"web"})
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_a_pin_is_the_same_name_across_restarts_of_its_container(kept: Host) -> None:
    first = kept.attach("web")
    assert kept.pin_inode("web") == first.place.inode
    kept.delete("web")
    kept.gone(first)
    second = kept.attach("web")
    assert kept.pin_inode("web") == second.place.inode
    sidecar = kept.share("sidecar", "web")
    assert sidecar.address == second.address


def test_a_pin_works_with_ip_netns_tools(kept: Host) -> None:
    web = kept.attach("web")
    shown = kept.command(
        "nsenter", f"--net={kept.netns_dir / 'web'}", "ip", "-4", "-brief", "addr", "show", "eth0"
    ).stdout
    assert f"{web.address}/16" in shown


def test_a_sidecar_and_its_first_one_survive_a_restart_of_the_service(host: Host) -> None:
    service = host.service()
    web = host.attach("web")
    address = web.address
    sidecar = host.share("sidecar", "web", ports="9090:90")
    sidecar.serve(tcp=(90,))
    service.kill9()
    host.delete("web")
    service.start()

    assert sidecar.address == address
    assert host.beyond.reach(UPLINK, 9090) == Answer("sidecar", BEYOND)
    eventually(lambda: set(host.ls()) == {"sidecar"})
    host.delete("sidecar")
    host.empty()


def test_both_that_appeared_while_nobody_looked_are_one_sandbox(host: Host) -> None:
    web = host.run("web", ports="8080:80")
    sidecar = host.run("sidecar", netns_path=f"/proc/{web.pid}/ns/net", ports="9090:90")
    sidecar.serve(tcp=(80, 90))
    host.watcher("sync")
    assert host.ls()["web"]["status"] == "attached"
    assert host.ls()["sidecar"]["status"] == "shared"
    assert host.beyond.reach(UPLINK, 8080) == Answer("sidecar", BEYOND)
    assert host.beyond.reach(UPLINK, 9090) == Answer("sidecar", BEYOND)


# --- watcher bundle --------------------------------------------------------------------------


def test_watcher_bundle_writes_the_path_to_share(kept: Host) -> None:
    web = kept.attach("web")
    bundle = kept.bundle("sidecar", annotations={"org.example.kept": "yes"})
    before = json.loads((bundle / "config.json").read_text())

    kept.watcher("bundle", str(bundle), "--share", "web")
    after = json.loads((bundle / "config.json").read_text())
    network = next(n for n in after["linux"]["namespaces"] if n["type"] == "network")
    assert network == {"type": "network", "path": str(kept.netns_dir / "web")}
    assert len(after["linux"]["namespaces"]) == len(before["linux"]["namespaces"])
    assert after["annotations"]["org.example.kept"] == "yes"
    before["linux"].pop("namespaces")
    after["linux"].pop("namespaces")
    before.pop("annotations")
    after.pop("annotations")
    assert after == before

    kept.launch("run", "sidecar", "--detach")
    assert kept.attached("sidecar", "shared").address == web.address


def test_watcher_bundle_run_twice_changes_nothing_more(host: Host) -> None:
    host.attach("web")
    bundle = host.bundle("sidecar")
    host.watcher("bundle", str(bundle), "--share", "web")
    once = (bundle / "config.json").read_text()
    host.watcher("bundle", str(bundle), "--share", "web")
    assert (bundle / "config.json").read_text() == once
    assert [path.name for path in bundle.iterdir()] == ["config.json"]


def test_watcher_bundle_refuses_what_it_cannot_do(host: Host) -> None:
    host.attach("web")
    bundle = host.bundle("sidecar")
    before = (bundle / "config.json").read_text()
    empty = host.base / "empty"
    empty.mkdir()
    broken = host.base / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"linux": ')

    for directory, share in (
        (bundle, "../web"),
        (empty, "web"),
        (broken, "web"),
        (host.base / "missing", "web"),
    ):
        done = host.watcher("bundle", str(directory), "--share", share, check=False)
        assert done.returncode in (1, 2), (directory, share, done)
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert (bundle / "config.json").read_text() == before
    assert (broken / "config.json").read_text() == '{"linux": '


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON: Expecting"),
        ("[" * 100_000, "is nested too deeply; repair it"),
        (f'{{"a": {"9" * 5000}}}', "has a text or a number that cannot be read; repair it"),
        (b'{"a": "\xff"}', "has a text or a number that cannot be read; repair it"),
        ("[]", "is not a JSON object; make it with `runc spec`"),
        (Path("real.json"), "is a link; put the file itself there"),
    ],
)
def test_watcher_bundle_says_in_plain_words_what_a_file_is(
    host: Host, content: str | bytes | Path, says: str
) -> None:
    host.attach("web")
    bundle = host.bundle("sidecar")
    config = bundle / "config.json"
    before = config.read_bytes()
    config.rename(bundle / "real.json")
    if isinstance(content, Path):
        config.symlink_to(content)
    else:
        config.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = host.watcher("bundle", str(bundle), "--share", "web", check=False)
    assert done.stderr.startswith(f'watcher: "{config}" {says}')
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert (bundle / "real.json").read_bytes() == before
