"""What an engine shows of a start that the gate refuses."""

from __future__ import annotations

from tests.support.booted import Booted

PODMAN = (
    "podman", "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "run", "--runtime=runc",
    "--cgroups=no-conmon", "--pids-limit=0", "--network=none",
)  # fmt: skip


def test_podman_shows_why() -> None:
    with Booted() as machine:
        machine.command("systemctl", "start", "watcher")
        run = (*PODMAN, "--annotation=io.watcher.ip=10.0.0.1", "--rootfs", str(machine.rootfs))
        in_root = ("sh", "-c", 'cd / && exec "$@"', "sh")
        done = machine.command(*in_root, *run, "true", check=False)
        assert done.returncode != 0
        assert 'io.watcher.ip = "10.0.0.1": 10.0.0.1 is in no subnet of its networks' in done.stderr
