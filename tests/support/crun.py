"""A host whose runtime is crun."""

from __future__ import annotations

from pathlib import Path

from tests.support.host import Host
from tests.support.processes import Done
from tests.support.waiting import eventually


class CrunHost(Host):
    """A host as any, but for its runtime and its root.

    crun refuses the first version of cgroups with parts of the second, so the host has the second
    alone; and none for its containers, which need none.
    """

    runtime = ("crun", "--cgroup-manager=disabled")

    def __init__(self, rootfs: Path, config: str = "") -> None:
        super().__init__(rootfs, config)
        self.command("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")

    def shows(self, name: str, text: str) -> None:
        """Waits until a container has printed `text`."""
        eventually(lambda: text in self.output(name), what=f"{text} of {name}")


_SETUP = """
base=$1
mkdir -p "$base"/var/lib "$base"/var/tmp "$base"/etc "$base"/work
ln -s /run "$base"/var/run
mount --bind "$base"/var /var
mount -t overlay -o lowerdir=/etc,upperdir="$base"/etc,workdir="$base"/work overlay /etc
mkdir -p /etc/containers
cat > /etc/containers/containers.conf <<END
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
END
tar -c -C "$2" . | podman import - box
"""


class PodmanCrunHost(CrunHost):
    """A host with Podman, whose runtime is crun, as in Debian; its root is `/run/crun`.

    Its image `box` has the root file system of the other containers.
    """

    def __init__(self, rootfs: Path, config: str = "") -> None:
        super().__init__(rootfs, config)
        self.root = Path("/run/crun")
        self.configure(config)
        self.command("sh", "-ec", _SETUP, "podman", str(self.base), str(rootfs))

    def podman(self, *args: str, check: bool = True) -> Done:
        """Runs `podman`."""
        return self.command("podman", *args, check=check)
