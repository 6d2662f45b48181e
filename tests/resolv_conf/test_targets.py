"""Where it is mounted in roots of all kinds, and why not in others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support import bundles
from tests.support.host import Host, Service
from tests.support.processes import end
from tests.support.resolv_confs import (
    OURS,
    READ,
    link,
    linked,
    make_device,
    make_directory,
    make_fifo,
    remove,
    rooted,
)

RUN: Final = {"destination": "/run", "type": "tmpfs", "source": "tmpfs"}
STUB: Final = "../run/systemd/resolve/stub-resolv.conf"

MADE: Final[dict[str, tuple[dict[str, str], str]]] = {
    "nothing": ({}, "etc/resolv.conf"),
    "a link": (linked(STUB), "run/systemd/resolve/stub-resolv.conf"),
    "an absolute link": (linked("/var/lib/x/resolv.conf"), "var/lib/x/resolv.conf"),
    "links": (linked("link-0", "../etc/./link-1", "/var/x"), "var/x"),
    "a link out": (linked("../../../../../outside/resolv.conf"), "outside/resolv.conf"),
    "a link to a directory's link": ({"etc/resolv.conf": "../a/b", "a": "var"}, "var/b"),
}
"""What is at `/etc/resolv.conf`, and what is made then in a root that can be written."""


def contents(root: Path) -> set[str]:
    """All that is in a root."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_an_empty_file_is_made_where_it_is_missing(host: Host, service: Service) -> None:
    for number, (what, (links, made)) in enumerate(MADE.items()):
        name = f"c{number}"

        def spoil(root: Path, links: dict[str, str] = links) -> None:
            remove(root)
            link(root, links)

        bundle, root = rooted(host, name, spoil), host.base / f"root-{name}"
        before = contents(root)
        assert host.run_to_end(name, READ, **bundle).stdout == OURS, what
        file = root / made
        directories = {str(above) for above in Path(made).parents} - {"."}
        new = contents(root) - before
        assert made in new <= {made, *directories & new}, (what, new)
        assert (file.stat().st_mode & 0o777, file.read_bytes()) == (0o644, b""), what
        assert all((root / d).stat().st_mode & 0o777 == 0o755 for d in new - {made}), what
        assert host.run_to_end(name, READ, **bundle).stdout == OURS, what
    assert service.warnings() == []


def test_what_is_made_in_a_tmpfs_of_its_own_goes_with_it(host: Host, service: Service) -> None:
    bundle = rooted(host, "c", lambda root: link(root, linked(STUB)), mounts=(RUN,), read_only=True)
    (host.base / "root-c/run").mkdir()
    assert host.run_to_end("c", READ, **bundle).stdout == OURS
    assert not list((host.base / "root-c/run").iterdir())
    assert service.warnings() == []


WHY_NOT: Final[dict[str, Callable[[Path], object]]] = {
    "cannot be followed": lambda root: link(root, linked("link-0", "resolv.conf")),
    "leads out of that": lambda root: link(root, linked("/proc/1/fd/0")),
    "leads to a file system of type proc": lambda root: link(root, linked("/proc/version")),
    "file system of type proc": lambda root: link(root, linked("/proc/none")),
    "no regular file": make_fifo,
    "no regular file ": make_directory,
    "no regular file  ": make_device,
    "lead nowhere": lambda root: link(root, linked("/gone/")),
    "mounted in its root: Not a directory": lambda root: link(root, linked("/etc/hosts/x")),
}
"""Reasons by which a container gets none, whose root is so; the spaces tell them apart."""


def test_a_container_without_one_starts_and_the_log_says_why(host: Host, service: Service) -> None:
    for number, (why, spoil) in enumerate(WHY_NOT.items()):
        name = f"c{number}"
        host.run_to_end(name, ("true",), **rooted(host, name, spoil))
        service.logged("no resolv.conf", f'"{name}"', why.strip(), level="warning")
    read_only = rooted(host, "ro", remove, read_only=True)
    host.run_to_end("ro", ("true",), **read_only)
    service.logged("no resolv.conf", '"ro"', "its root is read-only", level="warning")
    assert len(service.warnings()) == len(WHY_NOT) + 1


def test_a_bundle_that_mounts_its_own_keeps_it(host: Host, service: Service) -> None:
    own = host.base / "own.conf"
    own.write_text("nameserver 192.0.2.53\n")
    for name, source in (("file", str(own)), ("device", "/dev/null")):
        mount = {"destination": "/etc/resolv.conf", "type": "bind", "source": source,
                 "options": ["bind"]}  # fmt: skip
        bundle = rooted(host, name, lambda _: None, mounts=(mount,))
        expected = own.read_text() if name == "file" else ""
        assert host.run_to_end(name, READ, **bundle).stdout == expected
    assert service.warnings() == []


def test_a_directory_of_the_host_is_covered_but_nothing_is_made_in_it(
    host: Host, service: Service
) -> None:
    full, empty = host.base / "full", host.base / "empty"
    for directory in (full, empty):
        directory.mkdir()
    (full / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    for directory in (full, empty):
        etc = {"destination": "/etc", "type": "bind", "source": str(directory),
               "options": ["bind"]}  # fmt: skip
        bundle = rooted(host, directory.name, lambda _: None, mounts=(etc,))
        done = host.run_to_end(directory.name, READ, check=False, **bundle)
        assert done.stdout == (OURS if directory is full else "")
    assert (full / "resolv.conf").read_text() == "nameserver 192.0.2.53\n"
    assert not list(empty.iterdir())
    # A tmpfs is a container's own only if the host does not have it as well.
    host.command("mount", "-t", "tmpfs", "tmpfs", str(empty))
    run = {"destination": "/run", "type": "bind", "source": str(empty), "options": ["bind"]}
    bundle = rooted(host, "run", lambda root: link(root, linked(STUB)), mounts=(run,))
    host.run_to_end("run", ("true",), **bundle)
    assert host.command("ls", str(empty)).stdout == ""
    for name in ("empty", "run"):
        service.logged("no resolv.conf", f'"{name}"')
    said = [entry["reason"] for entry in service.warnings()]
    assert len(said) == 2
    assert all("what is mounted there is not its own" in reason for reason in said)


@pytest.mark.parametrize("process", ["1", "self"])
def test_a_link_of_proc_to_the_host_s_root_leads_nowhere(
    host: Host, service: Service, process: str
) -> None:
    """Only a container without a pid namespace of its own has such links."""
    outside = host.base / "outside"
    outside.mkdir()
    (outside / "there").write_text("of the host\n")
    for name in ("there", "missing", "above/missing"):
        target = f"/proc/{process}/root{outside}/{name}"
        bundle = rooted(host, name[:5], partial(link, links=linked(target)))

        def edit(
            spec: bundles.Spec, inner: Callable[[bundles.Spec], object] = bundle["edit"]
        ) -> None:
            inner(spec)
            spec["linux"]["namespaces"].remove({"type": "pid"})

        host.run_to_end(name[:5], ("true",), edit=edit)
        service.logged("no resolv.conf", f'"{name[:5]}"', level="warning")
    assert list(outside.iterdir()) == [outside / "there"]
    assert (outside / "there").read_text() == "of the host\n"
    assert str(outside) not in host.command("cat", "/proc/self/mountinfo").stdout


def test_a_mount_that_would_spread_is_not_made(host: Host, service: Service) -> None:
    etc = host.base / "etc"
    etc.mkdir()
    host.command("mount", "-t", "tmpfs", "tmpfs", str(etc))
    host.command("mount", "--make-rshared", "/")
    host.command("touch", str(etc / "resolv.conf"))
    mount = {"destination": "/etc", "type": "bind", "source": str(etc), "options": ["bind"]}
    bundle = rooted(host, "web", lambda _: None, mounts=(mount,))

    def edit(spec: bundles.Spec, inner: Callable[[bundles.Spec], object] = bundle["edit"]) -> None:
        inner(spec)
        spec["linux"]["rootfsPropagation"] = "shared"

    assert host.run_to_end("web", READ, edit=edit).stdout == ""
    assert "resolv" not in host.command("cat", "/proc/self/mountinfo").stdout
    service.logged("no resolv.conf", "would spread", level="warning")


def test_root_of_a_user_namespace_cannot_write_it(host: Host, service: Service) -> None:
    bundle = rooted(host, "web", lambda _: None, user_namespace=True)

    def edit(spec: bundles.Spec, inner: Callable[[bundles.Spec], object] = bundle["edit"]) -> None:
        inner(spec)
        everything = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER"]
        kinds = ("bounding", "effective", "permitted")
        spec["process"]["capabilities"] = dict.fromkeys(kinds, everything)

    (host.base / "root-web/bin/mount").symlink_to("busybox")
    script = "mount -o remount,rw,bind /etc/resolv.conf; echo x >>/etc/resolv.conf"
    program = ("sh", "-c", f"{script}; cat /etc/resolv.conf")
    done = host.run_to_end("web", program, **{**bundle, "edit": edit})
    assert done.stdout == OURS
    assert "can't create /etc/resolv.conf" in done.stderr
    assert host.run_to_end("next", READ).stdout == OURS
    assert service.warnings() == []


SWAPS: Final = """
set +e
cd "$1/etc"
while :; do
    ln -sfn ../../../../../../../../../../"$2" resolv.conf
    rm -f resolv.conf; touch resolv.conf
    rm -f resolv.conf; ln -s ../run/x/y resolv.conf; rm -rf ../run
    mkdir ../run; mv -T ../run ../moved; ln -s "$3" ../run; rm -rf ../run ../moved
    rm -f resolv.conf; mkdir resolv.conf; rmdir resolv.conf
done
"""
"""Changes a root all the time: links that lead out, and what is there, missing, or elsewhere."""


@pytest.mark.parametrize("count", [24])
def test_whoever_renames_in_a_root_meanwhile_leads_nobody_out(
    host: Host, service: Service, count: int
) -> None:
    outside = host.base / "outside"
    outside.mkdir()
    (outside / "file").write_text("of the host\n")
    bundle = rooted(host, "c", lambda _: None)
    swapper = host.popen(
        ["sh", "-c", SWAPS, "sh", str(host.base / "root-c"), str(outside / "file"), str(outside)]
    )
    host.on_close(partial(end, swapper))
    for number in range(count):
        host.run_to_end(f"c{number}", ("true",), **bundle)
    assert swapper.poll() is None
    assert list(outside.iterdir()) == [outside / "file"]
    assert (outside / "file").read_text() == "of the host\n"
    assert "resolv" not in host.command("cat", "/proc/self/mountinfo").stdout
    assert {entry["event"] for entry in service.warnings()} <= {"no resolv.conf"}
