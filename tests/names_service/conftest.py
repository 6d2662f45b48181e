"""A host of two networks with names, and a server of names on the machine beyond."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support import bundles
from tests.support.host import BEYOND, Host, HostMaker, Service
from tests.support.name_service import NameService
from tests.support.processes import end
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = f"""
[gate]
mode = "required"

[network.default]
subnets = ["172.19.0.0/16", "fd00:19::/64"]

[network.back]
bridge = "netns1"
subnets = ["172.20.0.0/16"]
internal = true

[names]
servers = ["{BEYOND}"]
"""


class Named:
    """The host, with what runs on it.

    Attributes:
        host, service, names: the host, `watcher run` and `watcher names`.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.service: Service = host.service()
        self.names = NameService(host).hears()
        self._asked = host.base / "asked.log"

    def serve_beyond(self) -> None:
        """Has dnsmasq answer there for `far.example`, and note all that it is asked."""
        process = self.host.popen(
            ("dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts",
             "--conf-file=/dev/null", "--pid-file=", "--user=root", "--local-ttl=300",
             "--log-queries", f"--log-facility={self._asked}",
             f"--listen-address={BEYOND}", "--bind-interfaces",
             "--address=/far.example/198.51.100.7", "--address=/far.example/2001:db8:1::7"),
            netns=self.host.beyond,
        )  # fmt: skip
        self.host.on_close(lambda: end(process))
        eventually(lambda: "started" in self._asked.read_text(), what="dnsmasq")

    def asked(self) -> str:
        """What it was asked so far."""
        return self._asked.read_text()


@pytest.fixture
def named(make_host: HostMaker) -> Named:
    """See :class:`Named`."""
    return Named(make_host(CONFIG))


@pytest.fixture
def glibc(tmp_path: Path) -> Iterator[Path]:
    """A root file system with this machine's programs, and so with glibc."""
    rootfs = bundles.make_rootfs(tmp_path / "glibc")
    (rootfs / "usr").mkdir()
    for name in ("lib", "lib64"):
        (rootfs / name).symlink_to(f"usr/{name}")
    yield rootfs
    shutil.rmtree(rootfs)
