"""Containers that are none of the watcher's business are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.bundles import Spec
from tests.support.host import Host, HostMaker
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
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


def ignored(host: Host, name: str) -> str:
    """Waits until a container is listed as ignored; returns the reason."""
    host.settle()

    def is_ignored() -> bool:
        row = host.ls()[name]
        assert row["status"] == "ignored", row
        return True

    eventually(is_ignored)
    return str(host.inspect(name)["reason"])


def with_links(*names: str) -> Callable[[Spec], None]:
    """Has a hook make links in the namespace of a bundle's container, as engines do."""
    script = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')" + "".join(
        f" && nsenter --target $pid --net ip link add {name} type bridge" for name in names
    )
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/usr/sbin"]}

    def edit(spec: Spec) -> None:
        spec["hooks"] = {"createRuntime": [hook]}

    return edit


def untouched(host: Host) -> None:
    """Nothing has been made on the host, but for the bridge that a service makes at its start."""
    assert host.here.links() - {"netns0"} == {"lo", "uplink"}
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
    assert kept.here.links() - {"netns0"} == {"lo", "uplink"}

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


# --- a network of somebody else ------------------------------------------------------------------


@pytest.mark.parametrize("link", ["eth0", "lan0"])
def test_a_container_that_another_program_has_connected(kept: Host, link: str) -> None:
    theirs = kept.run("theirs", edit=with_links(link))
    before = theirs.place.picture()
    reason = ignored(kept, "theirs")
    assert f'another program has given it the interface "{link}"' in reason
    assert theirs.place.picture() == before
    assert kept.leftovers() == []
    assert kept.watcher("sync").stdout == "nothing to do\n"


def test_one_that_is_connected_and_asks_for_a_network_does_not_start(served: Host) -> None:
    asking = {"annotations": {"io.watcher.network": "default"}, "edit": with_links("lan0")}
    done = served.run_to_end("web", ["true"], check=False, **asking)
    assert done.returncode != 0
    reason = served.fails("web")
    assert 'io.watcher.network = "default": another program has given it the interface' in reason
    assert "--network none" in reason
    assert served.leftovers() == []


def test_one_that_is_connected_fails_to_get_ports_where_nothing_holds_it(host: Host) -> None:
    host.run("web", ports="8080:80", edit=with_links("eth0"))
    assert 'io.watcher.ports = "8080:80/tcp": another program' in host.fails("web")
    assert host.leftovers() == []


def test_links_that_the_kernel_makes_in_each_namespace_do_not_count(kept: Host) -> None:
    kept.attach("web", edit=with_links("tunl0", "sit0", "ip6tnl0"))


def test_many_at_once_of_which_some_are_connected(host: Host) -> None:
    for number in range(4):
        host.run(f"theirs{number}", edit=with_links("eth0"))
        host.run(f"ours{number}")
    host.watcher("sync")
    by_status = {name: row["status"] for name, row in host.ls().items()}
    assert by_status == {f"theirs{n}": "ignored" for n in range(4)} | {
        f"ours{n}": "attached" for n in range(4)
    }


def test_a_link_that_its_own_user_makes_takes_nothing_from_a_container(kept: Host) -> None:
    """Not even when the lease store is lost: what was attached is known by its host end."""
    web = kept.attach("web", ports="8080:80")
    web.place.run("ip", "link", "add", "lan0", "type", "bridge")
    before = web.address
    for file in kept.state_dir.iterdir():
        file.unlink(missing_ok=True)  # a service looks after them at once
    kept.attached("web")
    assert web.address == before


def test_what_asks_for_a_network_in_a_foreign_namespace_learns_what_to_do(host: Host) -> None:
    service = host.service()
    path = foreign_namespace(host, host.base / "elsewhere/foreign")
    host.run("web", netns_path=path, ports="8080:80")
    reason = ignored(host, "web")
    assert str(path) in reason
    assert "--network none" in reason
    host.watcher("sync")
    host.run("other")
    host.attached("other")
    told = [entry for entry in service.warnings() if entry.get("container") == "web"]
    assert [entry["event"] for entry in told] == ["ignored"]
    assert told[0]["reason"] == reason
