"""Roots by pattern: each directory that matches is a root while it is there."""

from __future__ import annotations

import json
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.host import GATE_OFF, UPLINK, Host, Service
from tests.support.waiting import eventually

SHOWS_ETH0 = ("ip", "-4", "addr", "show", "eth0")


def engine(host: Host, more: str = "", *, gate: str = "") -> Path:
    """Has the host watch `engine/*`, the state directories of an engine's namespaces."""
    above = host.base / "engine/runc"
    host.config.write_text(
        host.config.read_text().partition("[[root]]")[0]
        + f'{more}\n[[root]]\npath = "{above}/*"\n{gate}'
    )
    return above


def mounted(host: Host, above: Path) -> list[str]:
    lines = host.command("cat", "/proc/self/mountinfo").stdout.splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(above))]


def remove(host: Host, root: Path) -> None:
    """Removes a root as an engine in another mount namespace does; here it is busy."""
    script = f"umount {root} 2>/dev/null || true; rm -r {root}"
    host.command("unshare", "--mount", "--propagation=private", "sh", "-ec", script)


def has_status(host: Host, name: str, status: str) -> None:
    eventually(lambda: host.status(name) == status, what=f"{status} of {name}")


def first_instruction(host: Host, name: str) -> str:
    host.bundle(name, SHOWS_ETH0)
    return host.launch("run", name).stdout


def test_a_root_appears_while_the_service_runs_and_vanishes(host: Host) -> None:
    above = engine(host)
    service = host.service()
    assert [stat.S_IMODE(p.stat().st_mode) for p in (above.parent, above)] == [0o711, 0o711]
    assert mounted(host, above) == []

    host.root = above / "moby"
    host.run("web", ports="8080:80")  # which makes the root
    web = host.attached("web")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080)
    service.logged("root appears", str(host.root))
    assert "inet 172.19." in first_instruction(host, "held")
    assert mounted(host, above) == [str(host.root)]
    assert host.ls()["web"]["root"] == str(host.root)
    assert f'root "{host.root}" is held' in host.watcher("check").stdout

    service.restart()
    assert host.beyond.reach(UPLINK, 8080)
    assert json.loads(host.watcher("sync", "--json").stdout) == []

    host.delete("web")
    host.gone(web)
    remove(host, host.root)
    service.logged("root vanishes", str(host.root))
    assert mounted(host, above) == []
    assert not host.root.exists()

    host.run("again")
    host.attached("again")
    service.stop()
    assert mounted(host, above) == []


@pytest.mark.parametrize("gate", ["", GATE_OFF])
def test_a_container_outlives_the_directory_of_its_root(host: Host, gate: str) -> None:
    """As with any root: a directory that is missing for a while interrupts nothing."""
    above = engine(host, gate=gate)
    service = host.service()
    host.root = above / "moby"
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    remove(host, host.root)
    service.logged("root vanishes")
    host.watcher("sync")
    assert host.beyond.reach(UPLINK, 8080)
    service.restart()
    assert host.beyond.reach(UPLINK, 8080)
    host.command("kill", "-9", str(web.pid))
    eventually(lambda: web.veth not in host.here.links())


def test_a_path_wins_over_a_pattern_and_the_first_pattern_over_the_others(host: Host) -> None:
    above = host.base / "engine/runc"
    engine(
        host,
        f'[[root]]\npath = "{above}/m*"\nattach = "annotated"\n'
        f'[[root]]\npath = "{above}/moby"\nlimits = {{ networks = ["other"] }}\n'
        '[network.other]\nbridge = "other0"\nsubnets = ["172.20.0.0/16"]\n',
    )
    host.service()
    for name, status in (("mine", "ignored"), ("moby", ""), ("else", "attached")):
        host.root = above / name
        host.bundle(name)
        done = host.launch("run", name, "--detach", check=False)
        assert (done.returncode == 0) == (name != "moby"), done
        if status:
            has_status(host, name, status)
    assert "limits of root" in host.inspect("moby")["reason"]


def test_roots_that_change_places_are_the_roots_of_their_new_names(host: Host) -> None:
    above = engine(host)
    one, two = above / "one", above / "two"
    two.mkdir(parents=True)
    service = host.service()
    host.root = one
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    script = f"umount {one} {two}; mv --exchange -T {one} {two}"
    host.command("unshare", "--mount", "--propagation=private", "sh", "-ec", script)
    eventually(lambda: host.ls()["web"]["root"] == str(two))
    service.logged("root is kept again")  # the second of them, behind the first
    eventually(lambda: sorted(mounted(host, above)) == [str(one), str(two)])
    for host.root in (one, two):
        assert "inet 172.19." in first_instruction(host, "held")
    assert host.beyond.reach(UPLINK, 8080)
    service.stop()
    assert mounted(host, above) == []


def test_links_files_and_hidden_directories_are_no_roots(host: Host) -> None:
    above = engine(host)
    above.mkdir(parents=True)
    (above / "link").symlink_to(host.base)
    (above / "file").touch()
    (above / ".hidden").mkdir()
    (above / "new\nline").mkdir()
    service = host.service()
    (above / "moby").mkdir()
    service.logged("root appears", "moby")
    assert mounted(host, above) == [str(above / "moby")]


def test_a_directory_of_roots_that_is_made_anew_is_watched_anew(host: Host) -> None:
    """Most file systems give it the inode number that the removed one had."""
    above = engine(host)
    above.mkdir(parents=True)
    service = host.service()
    host.command("sh", "-ec", f"rmdir {above}; mkdir -p {above}")
    for name in ("one", "two"):
        host.command("sh", "-ec", f"until mkdir {above}/{name}; do :; done")
        service.logged("root appears", name)


def test_a_directory_where_others_make_directories_is_left_alone(host: Host) -> None:
    above = engine(host)
    (above / "moby").mkdir(parents=True)
    above.chmod(0o777)
    service = host.service()
    ready = service.logged("ready")
    assert "others than root" in ready["left"][f"{above}/*"]
    assert mounted(host, above) == []
    assert "others than root" in host.watcher("check").stdout
    assert not watches(service, above), "whoever makes directories there has it look at each"
    above.chmod(0o711)
    service.restart()
    assert mounted(host, above) == [str(above / "moby")]
    assert watches(service, above)


def watches(service: Service, directory: Path) -> bool:
    """Whether a service is told by inotify(7) of what becomes of the names in `directory`."""
    inode = f" ino:{directory.stat().st_ino:x} "
    told: list[str] = []
    for one in Path(f"/proc/{service.pid}/fdinfo").iterdir():
        with suppress(OSError):  # it has just been closed
            told += one.read_text().splitlines()
    return any(line.startswith("inotify ") and inode in line for line in told)


def test_what_a_killed_service_mounted_on_matches_is_taken_back(host: Host) -> None:
    above = engine(host)
    for name in ("one", "two"):
        (above / name).mkdir(parents=True)
    service = host.service()
    assert len(mounted(host, above)) == 2
    service.kill9()
    host.watcher("sync")
    assert mounted(host, above) == []
    service.start()
    assert len(mounted(host, above)) == 2
    service.kill9()
    host.watcher("down")
    assert mounted(host, above) == []
