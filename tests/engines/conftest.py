"""Hosts with a real engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol

import pytest

from tests.support.engines import (
    WITH_DOCKER,
    ContainerdHost,
    DockerHost,
    EngineHost,
    PodmanHost,
)
from tests.support.host import Host


class EngineMaker(Protocol):
    """Makes a host with an engine."""

    def __call__[H: EngineHost](self, kind: type[H], config: str = "") -> H:
        """A host with the engine of class `kind`; `config` follows `path` in its `watcher.toml`."""


@pytest.fixture(scope="session")
def image(rootfs: Path) -> Iterator[Path]:
    """An archive of the root file system of all containers."""
    directory = Path(mkdtemp(prefix=f"watcher-image-{os.getpid()}-"))
    archive = directory / "image.tar"
    subprocess.run(["tar", "-c", "-C", str(rootfs), "-f", str(archive), "."], check=True)
    yield archive
    shutil.rmtree(directory)


@pytest.fixture
def make_engine(rootfs: Path, image: Path, hosts: list[Host]) -> EngineMaker:
    """Makes hosts with an engine, which end with the test."""

    def make[H: EngineHost](kind: type[H], config: str = "") -> H:
        host = kind(rootfs, image, config)
        hosts.append(host)
        return host

    return make


@pytest.fixture
def docker(make_engine: EngineMaker) -> DockerHost:
    """A host with Docker and `attach = "all"`; nothing of the watcher runs on it."""
    return make_engine(DockerHost, WITH_DOCKER)


@pytest.fixture
def podman(make_engine: EngineMaker) -> PodmanHost:
    """A host with Podman and `attach = "all"`; nothing of the watcher runs on it."""
    return make_engine(PodmanHost)


@pytest.fixture
def containerd(make_engine: EngineMaker) -> ContainerdHost:
    """A host with containerd and `attach = "all"`; nothing of the watcher runs on it."""
    return make_engine(ContainerdHost)
