"""crun: its containers appear and vanish as runc's do, and the gate holds `crun create`."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from watchdog.observers.inotify_c import InotifyConstants, inotify_add_watch, inotify_init

from tests.support.bundles import Spec
from tests.support.crun import CrunHost
from tests.support.host import GATE_OFF, UPLINK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOWS_ETH0 = ("ip", "-4", "addr", "show", "eth0")
WAITS_FOR_ETH0 = ("sh", "-c", "until ip -4 addr show eth0 | grep inet; do :; done")


@pytest.fixture
def crun(rootfs: Path) -> Iterator[CrunHost]:
    with CrunHost(rootfs) as host:
        yield host


@pytest.mark.parametrize("by", ["the service", "events alone", "sync"])
def test_a_container_of_crun_appears_is_reached_and_vanishes(crun: CrunHost, by: str) -> None:
    if by != "sync":
        crun.configure(GATE_OFF if by == "events alone" else "")
        crun.service()
    web = crun.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    assert crun.beyond.reach(UPLINK, 8080)
    assert crun.inspect("web")["bundle"] == str(crun.bundles / "web")
    side = crun.share("side", "web")
    assert side.address == web.address
    crun.delete("side")
    crun.delete("web")
    crun.gone(web)
    crun.empty()


def test_a_program_of_create_starts_with_its_network_and_one_of_run_gets_it(crun: CrunHost) -> None:
    crun.service()
    for n in range(5):
        name = f"c{n}"
        crun.create(name, SHOWS_ETH0)
        assert crun.status(name) == "attached"
        crun.start(name)
        crun.shows(name, "inet 172.19.")
    assert "inet 172.19." in crun.run_to_end("run", WAITS_FOR_ETH0).stdout


@pytest.mark.parametrize("forks_twice", ["for a user namespace", "to join a pid namespace"])
def test_a_container_whose_init_is_not_crun_s_child_is_held_as_well(
    crun: CrunHost, forks_twice: str
) -> None:
    service = crun.service()
    pid = crun.attach("other").pid

    def joins(spec: Spec) -> None:
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "pid" and forks_twice == "to join a pid namespace":
                namespace["path"] = f"/proc/{pid}/ns/pid"

    user_namespace = forks_twice == "for a user namespace"
    with crun.unwritable():  # so that nothing but a hold can keep crun waiting
        crun.bundle("web", SHOWS_ETH0, user_namespace=user_namespace, edit=joins)
        process = crun.launching("create", "web")
        service.logged("another process has the lock")
        assert process.poll() is None
    crun.launched(process, "web")
    assert crun.status("web") == "attached"
    crun.start("web")
    crun.shows("web", "inet 172.19.")
    assert not [entry for entry in service.log() if "without being held" in entry["event"]]


@pytest.mark.parametrize(
    ("verb", "user_namespace"), [("create", False), ("run", False), ("create", True)]
)
def test_a_request_that_cannot_be_met_is_refused(
    crun: CrunHost, verb: str, user_namespace: bool
) -> None:
    """With a user namespace, init is no child of the crun that is told why."""
    service = crun.service()
    nowhere = {"io.watcher.network": "elsewhere"}
    crun.bundle("bad", annotations=nowhere, user_namespace=user_namespace)
    done = crun.launch(verb, "bad", check=False)  # type: ignore[arg-type]
    assert done.returncode == 1
    assert '"elsewhere": there is no such network' in done.stderr
    service.logged("refused", "bad", "elsewhere")
    assert not (crun.root / "bad").exists()
    crun.empty()


def test_it_is_kept_over_restarts_and_kills(crun: CrunHost) -> None:
    service = crun.service()
    web = crun.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    service.restart()
    assert crun.beyond.reach(UPLINK, 8080)
    service.kill9()
    meanwhile = crun.run("meanwhile")
    crun.delete("web")
    service.start()
    crun.gone(web)
    crun.attached("meanwhile")
    assert json.loads(crun.watcher("sync", "--json").stdout) == []
    crun.kill("meanwhile")  # its directory stays
    crun.gone(meanwhile)
    assert crun.status("meanwhile") == "exited"
    service.stop()
    assert str(crun.root) not in crun.command("cat", "/proc/self/mountinfo").stdout


def test_a_container_that_crun_is_just_deleting_is_no_failure(crun: CrunHost) -> None:
    """crun removes its files one by one; without `config.json`, `status` may still be there."""
    service = crun.service()
    web = crun.attach("web")
    config = crun.root / "web" / "config.json"
    crun.kill("web")
    crun.gone(web)
    config.unlink()
    assert json.loads(crun.watcher("sync", "--json").stdout) == []
    assert service.warnings() == []


def with_seccomp(spec: Spec) -> None:
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
    }


def test_what_crun_keeps_beside_its_containers_is_no_container(crun: CrunHost) -> None:
    crun.service()
    crun.run("web", edit=with_seccomp)
    crun.attached("web")
    assert (crun.root / ".cache").is_dir()
    assert list(crun.ls()) == ["web"]


def test_ready_and_check_say_what_of_crun_is_held(crun: CrunHost) -> None:
    crun.run("web")
    root, promise = str(crun.root), "`crun create` is held"
    ready = crun.service().logged("ready")
    assert ready["held"] == {root: "mount"}
    assert promise in ready["runtimes"][root]
    findings = json.loads(crun.watcher("check", "--json").stdout)
    assert [f for f in findings if promise in f["what"] and f["level"] == "ok"]
    assert [f for f in findings if f'root "{root}" is held by its mount' in f["what"]]


def repeated(text: str, member: str, foreign: str) -> str:
    """Edits a bundle: crun reads the first of two keys, and other readers read the last."""
    path = f'"path": "{foreign}"'
    if member == "path":
        return text.replace('"type": "network"', f'"type": "network", {path}, "path": ""', 1)
    namespaces = json.loads(text)["linux"]["namespaces"]
    joins = json.dumps(
        [n | ({"path": foreign} if n["type"] == "network" else {}) for n in namespaces]
    )
    return text.replace('"namespaces":', f'"namespaces": {joins}, "{member}":', 1)


@pytest.mark.parametrize("member", ["namespaces", "NameSpaces", "path"])
def test_a_bundle_that_says_two_things_gets_no_foreign_namespace(
    crun: CrunHost, member: str
) -> None:
    """The namespace of another program would get a network by a bundle that joins it."""
    service = crun.service()
    foreign = crun.base / "foreign"
    crun.command("sh", "-c", f"touch {foreign} && unshare --net={foreign} true")
    config = crun.bundle("bad", annotations={"io.watcher.ports": "8080:80"}) / "config.json"
    config.write_text(repeated(config.read_text(), member, str(foreign)))
    done = crun.launch("create", "bad", check=False)
    assert "status" in done.stderr  # of its own it would start
    service.logged("bad", "is there twice, or in another case")
    links = json.loads(crun.command("nsenter", f"--net={foreign}", "ip", "-j", "link").stdout)
    assert [link["ifname"] for link in links] == ["lo"]
    assert not crun.veths()


@pytest.mark.parametrize("by", ["the gate", "events alone"])
def test_a_bundle_that_changes_between_crun_s_two_reads_gets_no_foreign_namespace(
    crun: CrunHost, by: str
) -> None:
    foreign = crun.base / "foreign"
    crun.command("sh", "-c", f"touch {foreign} && unshare --net={foreign} true")
    if by != "the gate":
        crun.configure(GATE_OFF)
    service = crun.service()
    config = crun.bundle("bad", annotations={"io.watcher.ports": "8080:80"}) / "config.json"
    own = config.read_text()
    joins = own.replace('"type": "network"', f'"type": "network", "path": "{foreign}"', 1)
    config.unlink()
    os.mkfifo(config)

    closed = inotify_init()
    inotify_add_watch(closed, os.fsencode(config), InotifyConstants.IN_CLOSE_NOWRITE)

    def tell() -> None:
        config.write_text(joins)
        os.read(closed, 4096)
        config.write_text(own)
        os.close(closed)

    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(tell)
        assert crun.launch("create", "bad").returncode == 0
        told.result()
    service.logged("bad", "is none of ours")
    assert crun.status("bad") == "ignored"
    links = json.loads(crun.command("nsenter", f"--net={foreign}", "ip", "-j", "link").stdout)
    assert [link["ifname"] for link in links] == ["lo"]
    crun.delete("bad")
    crun.run("web")  # one that has its own all along
    crun.attached("web")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"pid": "1"}', '{"pid": 99999999999999999999, "bundle": 1}', "\0\ufffe"]
)
def test_any_status_is_an_error_of_that_container_alone(crun: CrunHost, content: str) -> None:
    crun.service()
    entry = crun.root / "odd"
    entry.mkdir()
    (entry / "config.json").write_text("{}")
    (entry / "status.tmp").write_text(content)
    (entry / "status.tmp").rename(entry / "status")
    crun.attach("web")
    assert "status" in crun.fails("odd")
    assert "crun delete --force" in crun.fails("odd")
