"""`watcher connect --ip` with an address in no block of the host: it is claimed as for a start."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.clustering.test_switched import BLOCK, WIDE
from tests.feed.test_untold import KILLED
from tests.support.clustering import Registry, own, refused, theirs
from tests.support.connected import refused as says
from tests.support.host import Host, HostMaker
from tests.support.waiting import eventually
from watcher.cluster.protocol import StatusRow
from watcher.clustering.waiters import MOST
from watcher.clustering.waiting import PATIENCE

BOTH = WIDE.replace('["10.9.0.0/16"]', '["10.9.0.0/16", "fd09::/64"]')
ADDRESS, CLAIM = "10.9.200.7", "10.9.200.7/32"
ADDRESS6, CLAIM6 = "fd09::c8:7", "fd09::c8:7/128"
CONNECT = ("connect", "web", "wide", "--ip")


class Waiting:
    """A `watcher connect` that waits for its address."""

    def __init__(self, host: Host, log: Path, address: str) -> None:
        self._log = log
        with log.open("w") as file:
            self.process = host.start_warm(*CONNECT, address, env={}, log=file.fileno())
        host.on_close(self.process.end)

    def ended(self, status: int) -> str:
        """Waits for its end with that status; what it has said."""
        assert self.process.wait(60) == status, self._log.read_text()
        return self._log.read_text()


class Wide:
    """A host with a container that is in no clustered network yet, and the registry.

    Args:
        host: the host.
        more: what the registry has for the host beside a block of IPv4.
    """

    def __init__(self, host: Host, *more: str) -> None:
        self.host = host
        self.service = host.service()
        self.held = dict.fromkeys((BLOCK, *more), "held")
        self.hears(*self.held)
        host.attach("web")
        self._count = 0

    def hears(self, *prefixes: str) -> None:
        """The registry, which has those for the host, tells them to the service."""
        self.registry = Registry(self.host.run_dir)
        self.host.on_close(self.registry.close)
        self.registry.whole(*(own(prefix, "wide") for prefix in prefixes))
        self.has()

    def again(self, claim: str) -> None:
        """Starts the service again, which holds a claim."""
        self.service = self.host.service()
        self.held[claim] = "held"
        self.hears(*self.held)

    def has(self, **more: str) -> None:
        """Waits until the service has what it had at first, and `claim` or `claim6` so."""
        names = {"claim": CLAIM, "claim6": CLAIM6}
        expected = self.held | {names[name]: state for name, state in more.items()}
        eventually(lambda: self.registry.blocks() == expected, what=str(expected))

    def grant(self, claim: str = CLAIM) -> None:
        """The registry grants a claim."""
        self.registry.tell(own(claim, "wide"))

    def returned(self, claim: str = CLAIM) -> None:
        """Waits until the service gives a claim back."""
        eventually(lambda: self.registry.blocks().get(claim) == "leaving", what="it is given back")
        self.registry.take_back(own(claim, "wide"))
        eventually(lambda: claim not in self.registry.blocks())

    def waiting(self, address: str = ADDRESS) -> Waiting:
        """Starts a command that waits for an address, the first of several."""
        self._count += 1
        waiting = Waiting(self.host, self.host.base / f"connect-{self._count}", address)
        self.has(claim="wanted")
        return waiting

    def connected(self) -> None:
        """Connects the container by a claim."""
        waiting = self.waiting()
        self.grant()
        assert waiting.ended(0) == f"eth1 {ADDRESS}/16\n"
        self.has(claim="held")

    def networks(self) -> list[str]:
        """Those of the container."""
        networks: list[str] = self.host.ls()["web"]["network"]
        return networks


@pytest.fixture
def wide(make_host: HostMaker) -> Wide:
    """See :class:`Wide`."""
    return Wide(make_host(WIDE))


def test_it_waits_for_its_claim_and_nobody_waits_for_it(wide: Wide) -> None:
    waiting = wide.waiting()
    wide.host.attach("other")
    wide.host.watcher("publish", "other", "8080:80")
    wide.host.watcher("sync")
    assert waiting.process.poll() is None
    wide.grant()
    assert waiting.ended(0) == f"eth1 {ADDRESS}/16\n"
    wide.has(claim="held")
    assert ADDRESS in wide.host.ls()["web"]["address"]


def test_the_claim_ends_with_the_connection(wide: Wide) -> None:
    wide.connected()
    wide.host.watcher("disconnect", "web", "wide")
    wide.returned()
    wide.connected()
    wide.host.delete("web")
    wide.returned()


def test_it_stays_over_restarts_syncs_and_a_second_connect(wide: Wide) -> None:
    wide.connected()
    wide.service.kill9()
    wide.host.watcher("sync")
    wide.again(CLAIM)
    assert wide.host.watcher("sync").stdout == "nothing to do\n"
    assert "it is connected already" in says(wide.host, *CONNECT, ADDRESS)
    wide.has()
    assert ADDRESS in wide.host.ls()["web"]["address"]


def test_of_two_at_once_one_is_connected(wide: Wide) -> None:
    both = [wide.waiting(), wide.waiting()]
    wide.grant()
    statuses = [one.process.wait(60) for one in both]
    assert sorted(statuses) == [0, 1]
    assert "it is connected already" in both[statuses.index(1)].ended(1)
    wide.has(claim="held")


def test_a_container_that_starts_with_the_same_address_beside(wide: Wide) -> None:
    """Either gets it, and the other hears who has it."""
    wide.host.bundle("next", annotations={"io.watcher.network": "wide", "io.watcher.ip": ADDRESS})
    waiting = wide.waiting()
    runc = wide.host.launching("run", "next", "--detach")
    eventually(wide.host.seen(wide.host.root / "next").exists, what="it is being made")
    wide.grant()
    started = wide.host.launched(runc, "next", check=False)
    said = waiting.ended(1 if started.returncode == 0 else 0)
    assert f"{ADDRESS} is held by sandbox" in said + started.stderr
    wide.has(claim="held")


def test_a_claim_that_is_refused_says_why(wide: Wide) -> None:
    waiting = wide.waiting()
    wide.registry.tell(refused(CLAIM, 'host "b" has it', "wide"))
    assert waiting.ended(1) == (
        f'watcher: container "web": --ip "{ADDRESS}": {ADDRESS} of network wide cannot be claimed:'
        ' host "b" has it; see `watcher check` and `watcher hosts ls`, or ask for another address\n'
    )
    wide.has()
    assert wide.networks() == ["default"]


def test_it_waits_for_so_long_and_wants_it_no_more(wide: Wide) -> None:
    """The registry does not decide."""
    said = wide.waiting().ended(1)
    assert f"in no block of this host, and was not granted within {PATIENCE:g} s" in said
    wide.has()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.9.4.0", "10.9.4.0 is kept for the host that has 10.9.4.0/28"),
        ("172.30.0.1", "172.30.0.1 is in no subnet of its networks (wide)"),
    ],
)
def test_what_cannot_be_is_refused_at_once(wide: Wide, address: str, why: str) -> None:
    assert why in says(wide.host, *CONNECT, address)
    wide.has()


def test_one_of_each_family_or_none(make_host: HostMaker) -> None:
    wide = Wide(make_host(BOTH), "fd09::400/124")
    waiting = wide.waiting(f"{ADDRESS},{ADDRESS6}")
    wide.grant()
    wide.has(claim="held", claim6="wanted")
    wide.grant(CLAIM6)
    assert waiting.ended(0) == f"eth1 {ADDRESS}/16 {ADDRESS6}/64\n"
    wide.host.watcher("disconnect", "web", "wide")
    wide.returned()
    wide.returned(CLAIM6)
    waiting = wide.waiting(f"{ADDRESS},{ADDRESS6}")
    wide.grant()
    wide.has(claim="held", claim6="wanted")
    wide.registry.tell(refused(CLAIM6, "no", "wide"))
    assert f"{ADDRESS6} of network wide cannot be claimed: no" in waiting.ended(1)
    wide.returned()


def test_an_address_of_its_own_block_that_another_host_has(wide: Wide) -> None:
    """It is not taken for one of the block."""
    lent = "10.9.4.7/32"
    wide.registry.tell(theirs(lent, "b", "wide"))
    wide.registry.tell(own("10.9.7.0/28", "wide"))
    eventually(lambda: "10.9.7.0/28" in wide.registry.blocks())  # and what was told before it
    waiting = Waiting(wide.host, wide.host.base / "lent", "10.9.4.7")
    eventually(lambda: wide.registry.blocks().get(lent) == "wanted")
    wide.registry.tell(refused(lent, 'host "b" has it', "wide"))
    assert 'host "b" has it' in waiting.ended(1)


def test_who_is_killed_has_no_claim(wide: Wide) -> None:
    waiting = wide.waiting()
    waiting.process.end()
    wide.has()
    waiting = wide.waiting()
    waiting.process.signal(signal.SIGSTOP)
    wide.grant()
    wide.has(claim="held")
    waiting.process.end()
    wide.returned()


def test_who_is_killed_as_it_tells_leaves_no_claim(wide: Wide) -> None:
    """The service sees by itself what was disconnected, though nothing else has it look."""
    wide.connected()
    wide.service.kill9()
    wide.again(CLAIM)
    script = wide.host.base / "killed.py"
    script.write_text(KILLED)
    command = wide.host.watcher_command("disconnect", "web", "wide", script=script)
    assert wide.host.popen(command, env=wide.host.watcher_env).wait() == -signal.SIGKILL
    wide.returned()


@pytest.mark.parametrize(
    ("away", "meanwhile", "at_once"),
    [
        ("etcd", "etcd does not answer", "etcd does not answer"),
        ("cluster", "`watcher cluster` does not run", "`watcher cluster` does not run"),
        ("run", "the service has ended meanwhile", "no service claims it: nobody hears at"),
    ],
)
def test_what_is_away_is_said(wide: Wide, away: str, meanwhile: str, at_once: str) -> None:
    waiting = wide.waiting()
    if away == "etcd":
        wide.registry.tell(StatusRow(connected=False, problem="no", cluster_id="c1", revision=2))
    elif away == "cluster":
        wide.registry.close()
    else:
        wide.service.kill9()
    what = f"{ADDRESS} of network wide is in no block of this host, and"
    assert f"{what} {meanwhile}" in waiting.ended(1)
    assert f"{what} {at_once}" in says(wide.host, *CONNECT, ADDRESS)
    assert wide.networks() == ["default"]


def asks(host: Host) -> socket.socket:
    """A connection to the service, as commands have one."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(20)
    connection.connect(str(host.run_dir / "claims.sock"))
    return connection


def wanted(address: str) -> bytes:
    return b'{"network": "wide", "address": "%s"}' % address.encode()


@pytest.mark.parametrize(
    "packets",
    [
        (b"x",),
        (b"[" * 1000,),
        (b'{"network": "wide"}',),
        (wanted("10.9.200.7/32"),),
        (wanted("fd09::1%lo"),),
        (wanted("10.9.4.1"), wanted("10.9.4.2"), wanted("10.9.4.3")),
    ],
)
def test_nonsense_ends_the_connection_and_the_service_lives(
    wide: Wide, packets: tuple[bytes, ...]
) -> None:
    assert (wide.host.run_dir / "claims.sock").stat().st_mode & 0o777 == 0o600
    with asks(wide.host) as connection:
        for packet in packets[:-1]:
            connection.send(packet)
            assert connection.recv(1024) == b"{}"
        connection.send(packets[-1])
        assert connection.recv(1024) == b""
    wide.connected()
    assert not [line for line in wide.service.log() if line["event"] == "unexpected error"]


def test_very_many_commands(wide: Wide) -> None:
    """What is too many for the service is sent away."""
    many = [asks(wide.host) for _ in range(MOST)]
    with asks(wide.host) as connection:
        assert connection.recv(1024) == b""
    for one in many:
        one.close()
    wide.connected()
