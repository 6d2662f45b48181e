"""Hosts on which a real engine runs: Docker, Podman or containerd, as Debian packages them.

An engine finds `/var` and `/etc` of its own and the host's `/run`, so it runs with its defaults,
and what it makes ends with the host. Its containers are in the host's cgroup.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.support.host import Container, Host
from tests.support.processes import Done, end
from tests.support.waiting import eventually

IMAGE: Final = "box"
"""The name of the image with the tests' root file system, which has no entry point."""

FOREVER: Final = ("sleep", "1000000")

WITH_DOCKER: Final = "[firewall]\nintegrate = true\n"
"""What a host with Docker needs: Docker drops forwarded packets that are not its own."""

_SETUP: Final = """
base=$1
mkdir -p "$base"/var/lib "$base"/var/tmp "$base"/var/log "$base"/etc "$base"/work
ln -s /run "$base"/var/run
mount --bind "$base"/var /var
mount -t overlay -o lowerdir=/etc,upperdir="$base"/etc,workdir="$base"/work overlay /etc
"""


class EngineHost(Host):
    """A host with an engine, whose root is in `watcher.toml`.

    Args:
        rootfs, config: as :class:`Host` has them.
        image: an archive of `rootfs`.
    """

    runtime_root: ClassVar[str]
    """The root of the engine's runtime."""

    def __init__(self, rootfs: Path, image: Path, config: str = "") -> None:
        super().__init__(rootfs, config)
        try:
            self.command("sh", "-ec", _SETUP, "engine", str(self.base))
            self.start_engine(image)
        except BaseException:
            self.close()
            raise

    def configure(self, config: str = "") -> None:
        """Writes `watcher.toml` with the engine's root."""
        self.root = Path(self.runtime_root)
        super().configure(config)

    def start_engine(self, image: Path) -> None:
        """Starts the engine, and waits until it answers and has the image."""
        raise NotImplementedError

    def engine(self, *args: str, check: bool = True) -> Done:
        """Runs the engine's command."""
        raise NotImplementedError

    def run_in_engine(
        self, name: str, *options: str, args: Sequence[str] = FOREVER, **annotations: str
    ) -> Container:
        """Starts a container in the background; `ports="8080:80"` is `io.watcher.ports`."""
        raise NotImplementedError

    def daemon(self, name: str, *argv: str) -> subprocess.Popen[str]:
        """Starts a daemon that ends with the host."""
        log = (self.base / f"{name}.log").open("a")
        with log:
            process = self.popen(argv, stdout=log, stderr=log)
        self.on_close(lambda: end(process))
        return process

    def answers(self, *argv: str) -> None:
        """Waits until a command succeeds."""
        eventually(lambda: self.command(*argv, check=False).returncode == 0, what=" ".join(argv))


class DockerHost(EngineHost):
    """A host with Docker."""

    runtime_root = "/run/docker/runtime-runc/moby"

    def start_engine(self, image: Path) -> None:
        """Starts `dockerd`, which starts its containerd."""
        self.daemon(
            "dockerd", "dockerd", "--cgroup-parent", f"/{self.cgroup}",
            "--exec-opt", "native.cgroupdriver=cgroupfs",
        )  # fmt: skip
        self.answers("docker", "version")
        self.engine("import", str(image), IMAGE)

    def engine(self, *args: str, check: bool = True) -> Done:
        """Runs `docker`."""
        return self.command("docker", *args, check=check)

    def run_in_engine(
        self, name: str, *options: str, args: Sequence[str] = FOREVER, **annotations: str
    ) -> Container:
        """`docker run --detach`."""
        asked = _annotations(annotations)
        words = ["run", "--detach", "--name", name, *asked, *options, IMAGE, *args]
        return Container(self, self.engine(*words).stdout.strip())


class PodmanHost(EngineHost):
    """A host with Podman on runc, and with netavark for its own networks."""

    runtime_root = "/run/runc"
    settings: ClassVar[str] = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
log_driver = "k8s-file"
"""
    """Its `containers.conf`."""

    def start_engine(self, image: Path) -> None:
        """Podman has no daemon."""
        directory = self.base / "etc/containers"
        directory.mkdir(exist_ok=True)
        (directory / "containers.conf").write_text(self.settings)
        self.engine("import", str(image), IMAGE)

    def engine(self, *args: str, check: bool = True) -> Done:
        """Runs `podman`."""
        quiet = {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
        return self.command("podman", *args, check=check, env=quiet)

    def run_in_engine(
        self, name: str, *options: str, args: Sequence[str] = FOREVER, **annotations: str
    ) -> Container:
        """`podman run --detach`."""
        if "--pod" not in options:
            options = (*self.in_cgroup(), *options)
        asked = _annotations(annotations)
        words = ["run", "--detach", "--name", name, *asked, *options, IMAGE, *args]
        return Container(self, self.engine(*words).stdout.strip())

    def in_cgroup(self) -> tuple[str, ...]:
        """The options that put a container into the host's cgroup."""
        return "--cgroup-parent", f"/{self.cgroup}"

    def pod(self, name: str, *options: str) -> Container:
        """Makes and starts a pod, and returns its pause container."""
        infra = ("--infra-image", IMAGE, "--infra-command", " ".join(FOREVER))
        self.engine("pod", "create", "--name", name, *self.in_cgroup(), *infra, *options)
        self.engine("pod", "start", name)
        inspected: Any = json.loads(self.engine("pod", "inspect", name).stdout)
        pod = inspected[0] if isinstance(inspected, list) else inspected
        return Container(self, pod["InfraContainerID"])


class PodmanOnCrunHost(PodmanHost):
    """A host with Podman on crun, as Debian has it.

    Its containers have no cgroup, for the reason that :class:`tests.support.crun.CrunHost` gives.
    """

    runtime_root = "/run/crun"
    settings = PodmanHost.settings.replace('"runc"', '"crun"') + 'cgroups = "disabled"\n'

    def start_engine(self, image: Path) -> None:
        """Only the second version of cgroups is there."""
        self.command("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
        super().start_engine(image)

    def in_cgroup(self) -> tuple[str, ...]:
        """It has none."""
        return ()


class ContainerdHost(EngineHost):
    """A host with containerd, driven by `ctr` in its namespace `default`."""

    runtime_root = "/run/containerd/runc/default"

    def configure(self, config: str = "") -> None:
        """Writes `watcher.toml` with the roots of all of containerd's namespaces."""
        self.root = Path("/run/containerd/runc/*")
        Host.configure(self, config)
        self.root = Path(self.runtime_root)

    def start_engine(self, image: Path) -> None:
        """Starts `containerd`."""
        self.daemon("containerd", "containerd")
        self.answers("ctr", "version")
        self._files = self.base / "rootfs"
        self._files.mkdir()
        self.command("tar", "-x", "-C", str(self._files), "-f", str(image))

    def engine(self, *args: str, check: bool = True) -> Done:
        """Runs `ctr`."""
        return self.command("ctr", *args, check=check)

    def run_in_engine(
        self, name: str, *options: str, args: Sequence[str] = FOREVER, **annotations: str
    ) -> Container:
        """`ctr run --detach`."""
        asked = _annotations(annotations)
        cgroup = ("--cgroup", f"/{self.cgroup}/{name}")
        rootfs = ("--env", "PATH=/bin", "--rootfs", str(self._files))
        self.engine("run", "--detach", *cgroup, *asked, *options, *rootfs, name, *args)
        return Container(self, name)


def _annotations(asked: dict[str, str]) -> list[str]:
    return [
        word
        for key, value in asked.items()
        for word in ("--annotation", f"io.watcher.{key}={value}")
    ]
