"""A host with the gate, and root file systems that a test may spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import bundles
from tests.support.host import Host, HostMaker, Service

type Spoiled = Callable[[str], Path]


@pytest.fixture
def host(make_host: HostMaker) -> Host:
    """A host that has a second network, without names; nothing runs on it yet."""
    plain = '[network.plain]\nbridge = "plain0"\nsubnets = ["172.30.0.0/16"]\nnames = false\n'
    return make_host(f'[gate]\nmode = "required"\n{plain}')


@pytest.fixture
def service(host: Host) -> Service:
    """Its service, which holds every runc."""
    return host.service()


@pytest.fixture
def own_root(host: Host) -> Callable[..., dict[str, Any]]:
    """Makes a root file system for one container; gives what its bundle takes."""

    def make(name: str, spoil: Callable[[Path], object], *, read_only: bool = False,
             mounts: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:  # fmt: skip
        root = bundles.make_rootfs(host.base / f"root-{name}")
        spoil(root)

        def edit(spec: bundles.Spec) -> None:
            spec["root"] = {"path": str(root), "readonly": read_only}
            spec["mounts"] += mounts

        return {"edit": edit, **more}

    return make
