"""Rootless runtimes: a user runs runc or crun in a root of their own, below `/run/user`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.bundles import Spec
from tests.support.crun import CrunHost
from tests.support.host import UPLINK, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = 4321
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")


def as_rootless(spec: Spec) -> None:
    """What `runc spec --rootless` changes, but the network namespace stays."""
    linux = spec["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [
        {"containerID": 0, "hostID": USER, "size": 1},
    ]
    del linux["resources"], linux["cgroupsPath"]
    spec["mounts"] = [m for m in spec["mounts"] if m["type"] not in ("cgroup", "sysfs")]
    for mount in spec["mounts"]:
        mount["options"] = [o for o in mount.get("options", []) if not o.startswith("gid=")]


@pytest.fixture(params=[Host, CrunHost])
def rootless(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[Host]:
    """A host whose root is `/run/user/4321/runc`, which its user makes after the login."""
    with request.param(rootfs) as host:
        host.root = Path("/run/user/4321/runc")
        host.configure()
        yield host


def launch(host: Host, name: str) -> None:
    """What its user types."""
    runtime = [*host.runtime, "--root", "/run/user/4321/runc"]
    bundle = host.bundles / name
    os.chown(bundle, USER, USER)
    command = [*AS_USER, *runtime, "run", "--detach", "--bundle", str(bundle), name]
    with (bundle / "output").open("w") as output:
        process = host.popen(command, stdout=output, stderr=output, env={"HOME": "/"})
        assert process.wait(30) == 0, (bundle / "output").read_text()


def test_a_rootless_container_gets_its_network_a_moment_after_its_start(rootless: Host) -> None:
    service = rootless.service()
    assert "/run/user/4321/runc" in service.logged("ready")["left"]
    assert not rootless.seen(Path("/run/user")).exists()
    rootless.command("sh", "-ec", "mkdir -p /run/user/4321; chown 4321 /run/user/4321")
    rootless.command(*AS_USER, "mkdir", "-m", "700", "/run/user/4321/runc")
    service.logged("is not held", "user 4321's own")

    rootless.bundle("web", ports="8080:80", edit=as_rootless)
    launch(rootless, "web")
    web = rootless.attached("web")
    web.serve(tcp=(80,))
    assert rootless.beyond.reach(UPLINK, 8080)
    assert "/run/user" not in rootless.command("cat", "/proc/self/mountinfo").stdout
    assert "user 4321's own" in rootless.watcher("check").stdout

    rootless.command(
        *AS_USER, *rootless.runtime, "--root", "/run/user/4321/runc", "delete", "--force", "web"
    )
    rootless.gone(web)
    rootless.command(*AS_USER, "rmdir", "/run/user/4321/runc")  # nothing keeps it
