"""Containers that are none of the watcher's business are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.host import Host, HostMaker
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path


def foreign_namespace(host: Host, path: Path) -> Path:
    """A network namespace that somebody else made and configured."""
    path.parent.mkdir(exist_ok=True)
    host.command(
        "sh",
        "-ec",
        f"""touch {path}
        unshare --net={path} ip -batch - <<END
link add eth0 type bridge
addr add 10.9.8.7/24 dev eth0
link set eth0 up
END""",
    )
    return path


def ignored(host: Host, name: str) -> None:
    host.settle()

    def is_ignored() -> bool:
        row = host.ls()[name]
        assert row["status"] == "ignored", row
        return True

    eventually(is_ignored)


def untouched(host: Host) -> None:
    """Nothing has been made on the host."""
    assert host.here.links() == {"lo", "uplink"}
    assert host.leftovers() == []
    assert host.sysctl("net/ipv4/ip_forward") == "0"


def test_a_container_with_the_hosts_namespace(kept: Host) -> None:
    before = kept.here.picture()
    kept.run("web", netns_path="host")
    ignored(kept, "web")
    untouched(kept)
    assert kept.here.picture() == before
    kept.delete("web")
    kept.settle()
    assert kept.here.picture() == before


@pytest.mark.parametrize("directory", ["elsewhere", "netns"])
def test_a_container_with_a_foreign_namespace(kept: Host, directory: str) -> None:
    path = foreign_namespace(kept, kept.base / directory / "foreign")
    web = kept.run("web", netns_path=path)
    before = web.place.picture()
    ignored(kept, "web")
    assert web.place.picture() == before
    assert kept.here.links() == {"lo", "uplink"}

    kept.delete("web")
    kept.settle()
    eventually(lambda: kept.ls() == {})
    assert web.place.picture() == before
    assert kept.seen(path).stat().st_ino == web.place.inode


def test_a_container_that_asks_to_be_left_alone(kept: Host) -> None:
    web = kept.run("web", annotations={"io.watcher.network": "none"})
    ignored(kept, "web")
    untouched(kept)
    assert web.place.links() == {"lo"}


def test_a_sidecar_of_one_that_is_left_alone(kept: Host) -> None:
    web = kept.run("web", annotations={"io.watcher.network": "none"})
    kept.run("sidecar", netns_path=f"/proc/{web.pid}/ns/net")
    ignored(kept, "web")
    ignored(kept, "sidecar")
    untouched(kept)


@pytest.mark.parametrize("mode", ["service", "sync"])
def test_only_annotated_containers_are_attached_where_the_root_says_so(
    make_host: HostMaker, mode: str
) -> None:
    host = make_host('attach = "annotated"\n')
    if mode == "service":
        host.service()
    plain = host.run("plain", annotations={"org.example": "x"})
    ignored(host, "plain")
    untouched(host)
    host.attach("web", annotations={"io.watcher.network": "default"})
    assert plain.place.links() == {"lo"}


def test_the_log_does_not_complain_about_them(host: Host) -> None:
    service = host.service()
    host.run("one", netns_path="host")
    host.run("two", annotations={"io.watcher.network": "none"})
    ignored(host, "one")
    ignored(host, "two")
    assert service.warnings() == []


def test_sync_has_nothing_to_do_for_them(host: Host) -> None:
    host.run("one", netns_path="host")
    host.run("two", annotations={"io.watcher.network": "none"})
    host.run("three", netns_path=foreign_namespace(host, host.base / "elsewhere/foreign"))
    assert host.watcher("sync").stdout == "nothing to do\n"
    untouched(host)
