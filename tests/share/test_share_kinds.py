"""Containers of every kind share by annotation alone: whatever their bundle asks of runc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.host import Host
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.bundles import Spec

IN_WEB: Final[dict[str, Any]] = {"annotations": {"io.watcher.share": "web"}}
SAY: Final = (
    *("sh", "-c"),
    "ls -l /proc/self/ns/net; cat /proc/net/dev; ls /sys/class/net; echo said; sleep 1000000",
)
ODD: Final = "/tmp/a\nb \\040c/\u00fc"
LONG: Final = "/tmp" + f"/{'x' * 200}" * 18


def as_another_user(spec: Spec) -> None:
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}


def without_powers(spec: Spec) -> None:
    spec["process"]["capabilities"] = {kind: [] for kind in spec["process"]["capabilities"]}
    spec["process"]["noNewPrivileges"] = True
    spec["process"]["oomScoreAdj"] = 1000


def with_a_filter(spec: Spec) -> None:
    """Which refuses all that a move has the init do; the program itself is under it."""
    refused = ["setns", "move_mount", "open_tree", "socketpair", "recvmsg", "umount2"]
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": refused, "action": "SCMP_ACT_ERRNO"}],
    }


def with_a_filter_before(spec: Spec) -> None:
    """Without `no_new_privs` runc loads the filter earlier, while it still has its powers."""
    with_a_filter(spec)
    spec["process"]["noNewPrivileges"] = False


def without_sys(spec: Spec) -> None:
    spec["mounts"] = [m for m in spec["mounts"] if not m["destination"].startswith("/sys")]
    paths = [p for p in spec["linux"]["maskedPaths"] if not p.startswith("/sys")]
    spec["linux"]["maskedPaths"] = paths


def without_other_namespaces(spec: Spec) -> None:
    """But one for its mounts, which runc wants."""
    kept = ("mount", "network")
    namespaces = [one for one in spec["linux"]["namespaces"] if one["type"] in kept]
    spec["linux"]["namespaces"] = namespaces
    del spec["hostname"]
    spec["mounts"] = [one for one in spec["mounts"] if one["type"] != "mqueue"]


def with_hundreds_of_mounts(spec: Spec) -> None:
    destinations = ["/tmp", *(f"/tmp/{number}" for number in range(300))]
    spec["mounts"] += [{"destination": d, "type": "tmpfs", "source": "t"} for d in destinations]


def with_a_sysfs_at_an_odd_place(spec: Spec) -> None:
    at(spec, ODD)


def with_a_sysfs_far_away(spec: Spec) -> None:
    at(spec, LONG)


def at(spec: Spec, path: str) -> None:
    """Adds a sysfs."""
    spec["mounts"] += [
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        {"destination": path, "type": "sysfs", "source": "sysfs", "options": ["ro"]},
    ]
    spec["process"]["args"][-1] = f"ls '{path}/class/net'; {spec['process']['args'][-1]}"


KINDS: Final = (
    as_another_user, without_powers, with_a_filter, with_a_filter_before, without_sys,
    without_other_namespaces, with_hundreds_of_mounts, with_a_sysfs_at_an_odd_place,
    with_a_sysfs_far_away,
)  # fmt: skip


@pytest.mark.parametrize("edit", KINDS)
def test_its_program_is_in_the_shared_namespace(
    served: Host, edit: Callable[[Spec], object]
) -> None:
    web = served.attach("web")
    served.run("side", SAY, edit=edit, **IN_WEB)
    eventually(lambda: served.output("side").endswith("said\n"))
    said = served.output("side")
    assert f"net:[{web.place.inode}]" in said
    assert "eth0:" in said
    shown = 0 if edit is without_sys else 2 if "sysfs" in edit.__name__ else 1
    assert said.count("eth0\n") == shown
    side = served.attached("side", "shared")
    assert f"net:[{web.place.inode}]" in side.exec("ls", "-l", "/proc/self/ns/net").stdout


def test_it_may_be_in_the_pid_namespace_of_another(served: Host) -> None:
    """Then its init is not the first process there."""
    web, db = served.attach("web"), served.attach("db")

    def beside_db(spec: Spec) -> None:
        namespaces = [one for one in spec["linux"]["namespaces"] if one["type"] != "pid"]
        namespaces.append({"type": "pid", "path": f"/proc/{db.pid}/ns/pid"})
        spec["linux"]["namespaces"] = namespaces

    served.run("side", SAY, edit=beside_db, **IN_WEB)
    eventually(lambda: served.output("side").endswith("said\n"))
    assert f"net:[{web.place.inode}]" in served.output("side")
    assert db.exec("ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]
    assert db.place.inode != web.place.inode
    served.delete("side")


def test_it_may_keep_descriptors_and_have_a_paused_one_to_share(served: Host) -> None:
    web = served.attach("web")
    served.runc("pause", "web")
    bundle = served.bundle("side", ["sh", "-c", "cat <&4"], **IN_WEB)
    words = f"cd {bundle} && exec 3< /dev/null 4< {bundle}/kept && exec runc --root {served.root}"
    (bundle / "kept").write_text("kept\n")
    done = served.command("sh", "-c", f"{words} run --preserve-fds 2 side")
    assert done.stdout == "kept\n"
    served.runc("resume", "web")
    assert served.ls()["web"]["address"] == [web.address]


def test_two_that_share_each_other_have_nothing_to_share(served: Host) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        done = served.run_to_end(
            name, ["true"], check=False, annotations={"io.watcher.share": other}
        )
        assert done.returncode == 1
        assert "there is no such container with a sandbox" in done.stderr


def test_one_that_shares_its_own_name_has_nothing_to_share(served: Host) -> None:
    own = {"io.watcher.share": "www", "io.watcher.name": "www"}
    assert served.run_to_end("side", ["true"], check=False, annotations=own).returncode == 1
