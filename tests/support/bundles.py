"""Bundles as a user makes them: `runc spec` on a busybox root file system, without any hook."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

type Spec = dict[str, Any]

APPLETS: Final = (
    *("cat", "echo", "env", "false", "grep", "hostname", "id", "ip", "kill", "ls", "nc", "ping"),
    *("ping6", "sh", "sleep", "test", "touch", "traceroute", "true", "wget"),
)
"""The programs of a container's root file system."""

FOREVER: Final = ("sleep", "1000000")
"""The program of a container that runs until it is killed."""

CAPABILITIES: Final = ("CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW")
FIRST_MAPPED_ID: Final = 100_000


def make_rootfs(directory: Path) -> Path:
    """Makes a busybox root file system as `directory`, to be shared by any number of containers."""
    busybox = shutil.which("busybox", path="/bin:/usr/bin:/sbin:/usr/sbin")
    assert busybox is not None, "no busybox here; install the package busybox-static"
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "var"):
        (directory / name).mkdir(parents=True)
    shutil.copy2(busybox, directory / "bin/busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (directory / "etc/resolv.conf").touch()
    (directory / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    return directory


@cache
def _runc_spec() -> Spec:
    with TemporaryDirectory() as directory:
        subprocess.run(["runc", "spec", "--bundle", directory], check=True)
        spec: Spec = json.loads((Path(directory) / "config.json").read_text())
        return spec


def make_spec(
    rootfs: Path,
    args: tuple[str, ...] = FOREVER,
    *,
    annotations: dict[str, str] | None = None,
    netns_path: str | None = None,
    cgroup: str = "",
    user_namespace: bool = False,
) -> Spec:
    """What `runc spec` writes, with the edits that a user makes.

    Args:
        rootfs: the root file system, used read-only.
        args: the program and its arguments.
        annotations: `annotations` of the specification.
        netns_path: `None` for a network namespace of its own, `host` for the host's, or the path
            of one to join.
        cgroup: the container's `cgroupsPath`; runc's own choice if empty.
        user_namespace: whether it has a user namespace of its own, with its root as user 100000.
    """
    spec = copy.deepcopy(_runc_spec())
    process = spec["process"]
    process["terminal"] = False
    process["args"] = list(args)
    process["capabilities"] = {
        kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")
    }
    spec["root"] = {"path": str(rootfs), "readonly": True}
    if annotations:
        spec["annotations"] = dict(annotations)
    linux = spec["linux"]
    if cgroup:
        linux["cgroupsPath"] = cgroup
    set_network_namespace(spec, netns_path)
    if user_namespace:
        linux["namespaces"].append({"type": "user"})
        mapping = {"containerID": 0, "hostID": FIRST_MAPPED_ID, "size": 65_536}
        linux["uidMappings"] = [mapping]
        linux["gidMappings"] = [mapping]
    return spec


def set_network_namespace(spec: Spec, netns_path: str | None) -> None:
    """Makes `spec` ask for a network namespace as `netns_path` of :func:`make_spec` says."""
    namespaces = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "network"]
    if netns_path is None:
        namespaces.append({"type": "network"})
    elif netns_path != "host":
        namespaces.append({"type": "network", "path": netns_path})
    spec["linux"]["namespaces"] = namespaces


def write_bundle(directory: Path, spec: Spec) -> Path:
    """Writes `spec` as the bundle `directory`, which may exist."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(spec, indent=1))
    return directory
