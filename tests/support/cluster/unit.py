"""`watcher-cluster.service`, on a booted host."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.support.paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.booted import Booted

NAME: Final = "watcher-cluster"
UNIT: Final = REPOSITORY / f"deploy/{NAME}.service"
_DROP_INS: Final = f"/run/systemd/system/{NAME}.service.d"
_MASK: Final = f"/etc/systemd/system/{NAME}.service"


@contextmanager
def unmasked(booted: Booted) -> Iterator[None]:
    """Has `watcher.service` start the unit, which sees the configuration and the checkout."""
    seen = f"{booted.shared} {REPOSITORY}"
    drop_in = f"[Service]\nBindReadOnlyPaths={seen}\nProtectHome=tmpfs\n"
    run = booted.command
    run("sh", "-c", f"rm {_MASK}; mkdir -p {_DROP_INS}; cat >{_DROP_INS}/test.conf", stdin=drop_in)
    run("systemd-sysusers", str(REPOSITORY / "deploy/watcher.sysusers"))
    run("systemctl", "daemon-reload")
    run("systemctl", "stop", "watcher")
    yield
    run("systemctl", "stop", NAME)
    run("sh", "-c", f"rm -r {_DROP_INS}; ln -s /dev/null {_MASK}")
    run("systemctl", "daemon-reload")
