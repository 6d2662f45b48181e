"""`watcher bundle DIR --check`: what a bundle would get comes true, and nothing is changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import Host, HostMaker
from tests.support.processes import Done

WISHES: dict[str, Any] = {
    "ports": "8080:80,9000-9009:9000-9009/udp",
    "annotations": {"io.watcher.network": "default,back", "io.watcher.name": "DB"},
}
BACK = '[network.back]\nbridge = "back0"\nsubnets = ["172.20.0.0/24", "fd00:20::/64"]\n'


def check(host: Host, name: str) -> Done:
    """What it says of a bundle that is there, beside what is in the store before and after."""
    before = picture(host)
    done = host.watcher("bundle", str(host.bundles / name), "--check", check=False)
    assert picture(host) == before
    return done


def picture(host: Host) -> tuple[dict[str, list[str]], list[Any]]:
    """What is in the store, whose service may move it from one file to the other, and the rules."""
    files = host.state_dir.glob("*.db")
    return {file.name: content(file) for file in files}, host.nft_list()


def content(file: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return list(database.iterdump())


def test_it_says_what_comes_true(make_host: HostMaker) -> None:
    host = make_host(f"[gate]\n{BACK}")
    host.bundle("web", **WISHES)
    first = check(host, "web")
    assert first.stdout == (
        f"attached in root {host.root}: eth0 in network default with 172.19.0.2;"
        " eth1 in network back with 172.20.0.2 and fd00:20::2;"
        " ports 8080:80/tcp,9000-9009:9000-9009/udp; called db\n"
    )
    assert not host.state_dir.exists()
    host.service()
    host.run("other")
    assert "eth0 in network default with 172.19.0.3;" in check(host, "web").stdout
    host.launch("run", "web", "--detach")
    assert host.ls()["web"]["address"] == ["172.19.0.3", "172.20.0.2", "fd00:20::2"]

    host.bundle("sidecar", netns_path=host.netns_dir / "web", ports="8090:90")
    shared = f"shared in root {host.root}: with web; eth0 in network default with 172.19.0.3;"
    assert check(host, "sidecar").stdout.startswith(shared)


def test_it_says_of_a_sandbox_without_networks_that_it_has_none(served: Host) -> None:
    served.attach("web")
    served.watcher("disconnect", "web", "default")
    served.bundle("side", annotations={"io.watcher.share": "web"})
    says = f"shared in root {served.root}: with web; connected to no network\n"
    assert check(served, "side").stdout == says


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        ({"netns_path": "host"}, "in the host's network namespace"),
        ({"annotations": {"io.watcher.network": "none"}}, "io.watcher.network = none"),
    ],
)
def test_it_says_who_would_be_ignored(host: Host, bundle: dict[str, Any], words: str) -> None:
    host.bundle("web", **bundle)
    done = check(host, "web")
    assert done.returncode == 0
    assert done.stdout.startswith(f"ignored in root {host.root}: ")
    assert words in done.stdout


@pytest.mark.parametrize(
    ("status", "words", "bundle"),
    [
        (2, 'io.watcher.prots = "80": unknown annotation; write io.watcher.ports',
         {"annotations": {"io.watcher.prots": "80"}}),
        (2, 'io.watcher.ports = "x": ', {"ports": "x"}),
        (1, 'io.watcher.network = "nowhere": there is no such network; name one of default',
         {"annotations": {"io.watcher.network": "nowhere"}}),
        (1, "is held by sandbox", {"annotations": {"io.watcher.ip": "172.19.0.50"}}),
        (1, 'sandbox "first"', {"ports": "8080:80"}),
        (1, "a process of the host listens on", {"ports": "7000:80"}),
        (1, "do not allow it", {"ports": "700:80"}),
        (1, "run `watcher bundle",
         {"annotations": {"io.watcher.share": "first"}, "user_namespace": True}),
        (1, "there is no such container", {"annotations": {"io.watcher.share": "nobody"}}),
        (1, "cannot be found", {"netns_path": "/nowhere"}),
        (1, "cannot be found", {"netns_path": "/run/netns/a\0b"}),
    ],
)  # fmt: skip
def test_it_says_why_one_would_be_refused(
    make_host: HostMaker, status: int, words: str, bundle: dict[str, Any]
) -> None:
    host = make_host('limits.host_ports = ["1000-65535"]\n')
    host.service()
    host.run("first", ports="8080:80", annotations={"io.watcher.ip": "172.19.0.50"})
    host.here.serve(tcp=(7000,))
    host.bundle("web", **bundle)
    done = check(host, "web")
    (line,) = done.stderr.splitlines()
    assert words in line
    assert (done.returncode, done.stdout) == (status, "")
    # And so it is, when it is started after all.
    start = host.launch("run", "web", "--detach", check=False)
    assert start.returncode == 1
    if words != "cannot be found":
        assert line.partition(": ")[2].partition(": ")[2] in start.stderr


@pytest.mark.parametrize("content", [None, "{", "[]", '{"annotations": {"io.watcher.ip": 1}}'])
def test_what_is_no_bundle_is_said_to_be_none(host: Host, content: str | None) -> None:
    directory = host.bundles / "web"
    directory.mkdir(parents=True)
    if content is not None:
        (directory / "config.json").write_text(content)
    done = check(host, "web")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert str(directory) in done.stderr
    assert (content is None) == ("; make it with `runc spec`" in done.stderr)
    assert "that directory" not in done.stderr  # it is a user's


def test_it_says_what_limits_it(make_host: HostMaker) -> None:
    host = make_host(
        '[root.limits]\nconnections = 100\npolicy = "walled"\n'
        '[gate]\n[network.walled]\nbridge = "walled0"\nsubnets = ["172.20.0.0/24"]\n'
        'egress = ["10.0.0.0/8"]\nconnections = 300\negress_bandwidth = "5M"\n'
    )
    host.bundle(
        "web",
        annotations={
            "io.watcher.network": "default,walled",
            "io.watcher.egress": "any:443/tcp",
            "io.watcher.ingress-bandwidth": "1.5G",
        },
    )
    assert check(host, "web").stdout.endswith(
        "; egress 10.0.0.0/8 and any:443/tcp; ingress-bandwidth 1500M;"
        " egress-bandwidth in network walled 5M; connections 100\n"
    )
