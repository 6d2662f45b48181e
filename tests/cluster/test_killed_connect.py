"""`kill -9` at every point of connecting by a claim, and of disconnecting: no claim is left over.

Either the container is connected, and has its claim, or the claim is given back.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import pytest

from tests.clustering.test_connected import ADDRESS, CLAIM, CONNECT
from tests.clustering.test_switched import BLOCK, WIDE
from tests.support.clustering import Registry, own
from tests.support.host import Host, HostMaker
from tests.support.killer import READY, Killer, every_point
from tests.support.waiting import eventually

pytestmark = pytest.mark.accident

FEW: Final = 4
"""Every so-manieth point. `make soak` takes all."""


class Followed:
    """A host with a container that is connected by a claim, or is to be.

    Attributes:
        killer: plays `watcher` there.
        registry: what the service hears of etcd; see :meth:`hears`.
        in_etcd: what the host has in etcd.
    """

    registry: Registry

    def __init__(self, host: Host) -> None:
        self.host = host
        self.killer = Killer(host)
        self.in_etcd = {BLOCK}

    def hears(self) -> None:
        """A service hears of what is in etcd."""
        self._connect(Registry(self.host.run_dir))

    def may_hear(self) -> None:
        """The service that is to be killed hears of it, if it was not killed before."""
        with suppress(OSError):
            self._connect(Registry(self.host.run_dir, self.killer.has_ended))

    def _connect(self, registry: Registry) -> None:
        self.registry = registry
        self.host.on_close(registry.close)
        registry.whole(*(own(prefix, "wide") for prefix in self.in_etcd))

    def follow(self) -> bool:
        """What etcd has follows what the service tells; whether both have the same."""
        blocks = self.registry.blocks()
        if blocks.get(CLAIM) == "wanted" and CLAIM not in self.in_etcd:
            self.in_etcd.add(CLAIM)
            self.registry.tell(own(CLAIM, "wide"))
        elif blocks.get(CLAIM) == "leaving" and CLAIM in self.in_etcd:
            self.in_etcd.remove(CLAIM)
            self.registry.take_back(own(CLAIM, "wide"))
        return blocks == dict.fromkeys(self.in_etcd, "held")

    def until_killed(self) -> bool:
        """Follows until what was started last has ended; whether it was killed."""
        return self.killer.stopped_when(lambda: self.follow() and False)

    @property
    def connected(self) -> bool:
        """Whether the container has the address."""
        return ADDRESS in self.host.ls()["web"]["address"]

    def check(self) -> None:
        """The claim is there if the container has the address, and else it is not."""
        there = {BLOCK, CLAIM} if self.connected else {BLOCK}
        eventually(lambda: self.follow() and self.in_etcd == there, what=f"etcd has {there}")

    def have(self, *, connected: bool) -> None:
        """It is connected, or is not."""
        if self.connected != connected:
            words = (*CONNECT, ADDRESS) if connected else ("disconnect", "web", "wide")
            self.killer.start(*words)
            assert not self.until_killed()
            assert self.killer.status == 0, self.killer.log()
        self.check()


@pytest.fixture
def followed(make_host: HostMaker) -> Followed:
    """See :class:`Followed`; it has no service yet."""
    return Followed(make_host(WIDE))


@pytest.mark.parametrize("connects", [True, False])
def test_the_command(followed: Followed, *, connects: bool) -> None:
    followed.host.service()
    followed.hears()
    followed.host.attach("web")
    words = (*CONNECT, ADDRESS) if connects else ("disconnect", "web", "wide")

    def kill(at: int) -> bool:
        followed.have(connected=not connects)
        followed.killer.start(*words, at=at)
        return followed.until_killed()

    def check() -> None:
        followed.host.watcher("sync")
        followed.check()

    every_point(kill, check, step=FEW)


def test_the_service(followed: Followed) -> None:
    """The command hears that it has ended, or is done."""
    host = followed.host
    with host.service():
        followed.hears()
        host.attach("web")

    def kill(at: int) -> bool:
        with host.service():
            followed.hears()
            followed.have(connected=False)
        followed.killer.start("run", at=at, after="READY=1")
        assert followed.killer.until(READY)
        followed.may_hear()
        with (host.base / "connect.log").open("w") as log:
            command = host.start_warm(*CONNECT, ADDRESS, env={}, log=log.fileno())
        host.on_close(command.end)
        killed = followed.killer.stopped_when(
            lambda: (followed.follow() or True) and command.poll() is not None
        )
        assert command.wait(60) in (0, 1)
        return killed

    def check() -> None:
        with host.service():
            followed.hears()
            followed.check()

    every_point(kill, check, step=FEW)
