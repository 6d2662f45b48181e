"""`kill -9` at every failure point of every operation: `watcher sync` makes the host right again.

A :class:`Killer` plays one operation again and again on one host, kills it at the first point, the
second, and so on, and compares what `watcher sync` then
makes of the host with what it is where nothing was killed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.dialled import dial
from tests.support.host import BEYOND, UPLINK, Host
from tests.support.killer import KILLED, READY, Killer, every_point
from tests.support.pictures import Picture, difference, mountinfo, take
from tests.support.traffic import ENOUGH, Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually

pytestmark = pytest.mark.accident

EIGHT: Final = tuple(f"c{number}" for number in range(8))
FEW: Final = 3
"""Every so-manieth point of what has one container. `make soak` takes all."""

FEWER: Final = 11
"""The same, of eight containers at once."""

FEWEST: Final = 35
"""The same, of eight runcs, which take a second."""

PORTS: Final = {
    name: f"{8000 + number}:80/tcp,{8000 + number}:80/udp"
    for number, name in enumerate(("old", "new", "web", *EIGHT))
}

ASKED: Final = {
    "io.watcher.sysctl": '{"net.ipv4.conf.eth0.arp_notify": "1"}',
    "io.watcher.ingress-bandwidth": "1G",
    "io.watcher.egress-bandwidth": "1G",
    "io.watcher.egress": f"{BEYOND}:443/tcp",
    "io.watcher.ingress": f"{BEYOND}/32",
    "io.watcher.connections": "500",
}


def root_mounts(host: Host) -> int:
    """How often something is mounted on the root: what a killed gate leaves."""
    text = mountinfo(host)
    return [line.split()[4] for line in text.splitlines()].count(str(host.root))


class Scene:
    """One host with containers that serve, made and unmade as often as one likes.

    Containers come by a directory that is moved into the root, and go by one that is moved out:
    that is what an appearance and a vanishing are to the watcher, and takes no time. A `keeper`
    stays all the time, since a root that shows nothing is taken for one that cannot tell.
    """

    def __init__(self, host: Host, names: Sequence[str]) -> None:
        self.host = host
        self.names = names
        self.keeper = host.run("keeper", ports="7000:80", annotations=ASKED)
        self.containers = [host.run(n, ports=PORTS[n], annotations=ASKED) for n in names]
        for container in (self.keeper, *self.containers):
            container.serve(tcp=(80,))
        host.beyond.serve(tcp=(80, 443))
        self.away = host.base / "away"
        self.away.mkdir()
        self.killer = Killer(host)

    def leave(self) -> None:
        """The containers are in the root no more."""
        self.move(self.host.root, self.away, self.names)

    def come(self) -> None:
        """They are in it again."""
        self.move(self.away, self.host.root, self.names)

    def move(self, source: Path, target: Path, names: Sequence[str]) -> None:
        """Containers' directories are in `target` from now on."""
        for name in names:
            (source / name).rename(target / name)

    def picture(self) -> Picture:
        """What is there now."""
        return take(self.host, [self.keeper, *self.containers])

    def held(self) -> None:
        """Nobody opens a connection that its list does not have, whatever is missing."""
        for container in (self.keeper, *self.containers[:1]):
            assert dial(container, BEYOND, 80, timeout=LATENCY_FREE_NO) != "open"

    def check(self, should_be: Picture, *, reachable: bool) -> None:
        """Compares, and asks whoever should answer."""
        assert not (found := difference(self.picture(), should_be)), found
        assert root_mounts(self.host) == 0
        assert self.host.beyond.reach(UPLINK, 7000) == Answer("keeper", BEYOND)
        assert dial(self.keeper, BEYOND, 443) == "open"
        self.held()
        if reachable:
            for name in self.names:
                port = int(PORTS[name].partition(":")[0])
                assert self.host.beyond.reach(UPLINK, port) == Answer(name, BEYOND)

    def synced(self, should_be: Picture, *, reachable: bool) -> Callable[[], None]:
        """A check of what `watcher sync` makes of it."""

        def check() -> None:
            self.held()
            self.killer.sync()
            self.check(should_be, reachable=reachable)

        return check


def every_few_points(
    names: Sequence[str],
    kill: Callable[[int], bool],
    check: Callable[[], None],
    step_of_eight: int = FEWER,
) -> None:
    """As `every_point`, of `names`: one container, or eight."""
    every_point(kill, check, step=FEW if len(names) == 1 else step_of_eight)


@pytest.fixture(params=[("web",), EIGHT], ids=["one", "eight"])
def scene(request: pytest.FixtureRequest, host: Host) -> Scene:
    """A host with one container that comes and goes, or with eight that do so at once."""
    return Scene(host, request.param)


def test_attaching_on_a_fresh_host(scene: Scene) -> None:
    killer = scene.killer
    killer.sync()
    whole = scene.picture()

    def attach(at: int) -> bool:
        killer.raze()
        return killer.run("sync", at=at) == KILLED

    every_few_points(scene.names, attach, scene.synced(whole, reachable=True))


def test_detaching(scene: Scene) -> None:
    killer = scene.killer
    scene.leave()
    killer.sync()
    bare = scene.picture()

    def detach(at: int) -> bool:
        scene.come()
        killer.sync()
        scene.leave()
        return killer.run("sync", at=at) == KILLED

    every_few_points(scene.names, detach, scene.synced(bare, reachable=False))


def test_down(host: Host) -> None:
    scene = Scene(host, ("web",))
    killer = scene.killer
    fresh = scene.picture()
    killer.sync()
    whole = scene.picture()

    def down(at: int) -> bool:
        killer.sync()
        return killer.run("down", at=at) == KILLED

    def check() -> None:
        scene.held()
        killer.sync()
        scene.check(whole, reachable=True)
        assert killer.run("down") == 0
        assert not (found := difference(scene.picture(), fresh)), found

    every_point(down, check, step=FEW)


def test_starting_the_service(host: Host) -> None:
    """With a container that came and one that went while none ran."""
    scene = Scene(host, ("old", "new"))
    killer = scene.killer
    killer.sync()
    scene.move(host.root, scene.away, ["old"])
    killer.sync()
    whole = scene.picture()

    def start(at: int) -> bool:
        scene.move(scene.away, host.root, ["old"])
        scene.move(host.root, scene.away, ["new"])
        killer.sync()
        scene.move(scene.away, host.root, ["new"])
        scene.move(host.root, scene.away, ["old"])
        killer.start("run", at=at)
        killer.until(READY)
        return killer.stopped_when(lambda: True)

    def check() -> None:
        scene.held()
        killer.sync()
        scene.check(whole, reachable=False)
        assert host.beyond.reach(UPLINK, 8001) == Answer("new", BEYOND)

    every_point(start, check, step=FEW)


def test_stopping_the_service(host: Host) -> None:
    scene = Scene(host, ("web",))
    killer = scene.killer
    killer.sync()
    whole = scene.picture()

    def stop(at: int) -> bool:
        killer.start("run", at=at, after="STOPPING=1")
        assert killer.until(READY)
        killer.signal(signal.SIGTERM)
        return killer.ended() == KILLED

    every_point(stop, scene.synced(whole, reachable=True))


def test_attaching_by_the_service(scene: Scene) -> None:
    killer = scene.killer
    killer.sync()
    whole = scene.picture()

    def attach(at: int) -> bool:
        scene.leave()
        killer.sync()
        killer.start("run", at=at, after="READY=1")
        assert killer.until(READY)
        scene.come()
        return killer.stopped_when(lambda: set(scene.names) <= set(scene.host.leases().values()))

    every_few_points(scene.names, attach, scene.synced(whole, reachable=True))


def test_detaching_by_the_service(scene: Scene) -> None:
    killer = scene.killer
    scene.leave()
    killer.sync()
    bare = scene.picture()

    def detach(at: int) -> bool:
        scene.come()
        killer.sync()
        killer.start("run", at=at, after="READY=1")
        assert killer.until(READY)
        scene.leave()
        return killer.stopped_when(lambda: not set(scene.names) & set(scene.host.leases().values()))

    every_few_points(scene.names, detach, scene.synced(bare, reachable=False))


@pytest.mark.parametrize("names", [("web",), EIGHT], ids=["one", "eight"])
def test_attaching_at_the_gate(host: Host, names: Sequence[str]) -> None:
    """Whoever is held when it is killed goes on, and has its network by the next sync."""
    scene = Scene(host, ())
    killer = scene.killer
    for name in names:
        host.bundle(name, ports=PORTS[name])
    whole: list[Picture] = []

    def hold(at: int) -> bool:
        killer.start("run", at=at, after="READY=1")
        assert killer.until(READY)
        held = [(host.launching("run", name, "--detach"), name) for name in names]
        for process, name in held:
            host.launched(process, name)
        return killer.stopped_when(lambda: True)

    def check() -> None:
        killer.sync()
        picture = take(host, [scene.keeper, *(host.container(name) for name in names)])
        if not whole:
            whole.append(picture)
        assert not (found := difference(picture, whole[0])), found
        for name in names:
            host.delete(name)
        killer.sync()

    every_few_points(names, hold, check, FEWEST)


SEES: Final = "ls -l /proc/self/ns/net; ls /sys/class/net; exec sleep 1000000"
"""Which namespace it is in, by itself and by what is mounted."""


def test_sharing_at_the_gate(host: Host) -> None:
    """Whoever is killed with the service in the middle of a move starts nowhere.

    One that had not been stopped yet goes on by itself, as without a service.
    """
    scene = Scene(host, ())
    killer = scene.killer
    killer.sync()
    shared = scene.keeper.place.inode
    host.run("side", netns_path=host.netns_dir / "keeper")
    killer.sync()  # from then on there is a copy of its limits
    host.delete("side")
    killer.sync()
    asked = {"io.watcher.share": "keeper", "io.watcher.ports": "8000:80"}
    bare = scene.picture()
    whole: list[Picture] = []
    fates: dict[str, list[int]] = {"by itself": [], "not started": [], "shared": []}

    def is_its_fate(fate: str) -> None:
        """At this step of the move: other threads have their points in between."""
        steps = sum(point.endswith((" ptrace", " wait")) for point in killer.points)
        fates[fate].append(steps)

    def hold(at: int) -> bool:
        host.bundle("side", ["sh", "-c", SEES], annotations=asked)
        killer.start("run", at=at, after="READY=1")
        assert killer.until(READY)
        host.launched(host.launching("run", "side", "--detach"), "side", check=False)
        return killer.stopped_when(lambda: True)

    def check() -> None:
        if not (host.root / "side").exists():
            is_its_fate("not started")
            assert host.output("side") == ""
            killer.sync()
            assert not (found := difference(scene.picture(), bare)), found
            return
        eventually(lambda: "lo\n" in host.output("side"))
        side, seen = host.container("side"), host.output("side").split()
        assert f"net:[{side.place.inode}]" in seen
        if side.place.inode == shared:
            is_its_fate("shared")
            assert "eth0" in seen
            killer.sync()
            picture = take(host, [scene.keeper, side])
            whole[:] = whole or [picture]
            assert not (found := difference(picture, whole[0])), found
            assert host.beyond.reach(UPLINK, 8000) == Answer("keeper", BEYOND)
        else:
            is_its_fate("by itself")
            assert "eth0" not in seen
            assert killer.run("sync") == 1
            assert "start it again while the service runs" in host.inspect("side")["reason"]
        host.delete("side")
        killer.sync()
        assert not (found := difference(scene.picture(), bare)), found

    every_point(hold, check, step=7, first=1)
    by_itself, not_started, shared_at = fates.values()
    assert max(by_itself) <= min(not_started), fates
    # An init with fewer threads has fewer steps, so the end of one is not that of another.
    assert min(shared_at) > max(not_started) / 2, fates


ADDED: Final = ("9000:80", "9000:80/udp", "81")
ONE_LEFT: Final = '[root.limits]\nhost_ports = ["7000", "8002", "9100"]\n'
"""The ports of the scene, and the only one that can be chosen."""


@pytest.mark.parametrize("command", ["publish", "unpublish"])
def test_changing_the_ports_of_a_running_container(host: Host, command: str) -> None:
    """Whenever it is killed, the next sync makes all of the change, or nothing."""
    host.configure(ONE_LEFT)
    scene = Scene(host, ("web",))
    scene.containers[0].serve(udp=(80,))
    killer = scene.killer
    killer.sync()
    pictures: dict[str, Picture] = {}
    for name in ("publish", "unpublish"):
        assert killer.run(name, "web", *ADDED) == 0, killer.log()
        pictures[name] = scene.picture()
    (other,) = pictures.keys() - {command}
    last = "unpublish"

    def change(at: int) -> bool:
        nonlocal last
        if last != other:
            assert killer.run(other, "web", *ADDED) == 0, killer.log()
        return killer.run(command, "web", *ADDED, at=at) == KILLED

    def check() -> None:
        nonlocal last
        killer.sync()
        picture = scene.picture()
        last = next((name for name, one in pictures.items() if not difference(picture, one)), "")
        assert last, difference(picture, pictures[command])
        scene.check(pictures[last], reachable=True)
        answer = Answer("web", BEYOND) if last == "publish" else None
        timeout = ENOUGH if answer else LATENCY_FREE_NO
        assert host.beyond.reach(UPLINK, 9000, timeout=timeout) == answer
        assert host.beyond.reach(UPLINK, 9000, "udp", timeout=timeout) == answer

    every_point(change, check, step=FEW)


def test_attaching_one_whose_port_is_chosen(host: Host) -> None:
    host.configure('[root.limits]\nhost_ports = ["7000", "9100"]\n')
    scene = Scene(host, ())
    killer = scene.killer
    killer.sync()
    chooser = host.run("chooser", ports="80", annotations=ASKED)
    chooser.serve(tcp=(80,))
    killer.sync()
    scene.containers.append(chooser)
    whole = scene.picture()

    def attach(at: int) -> bool:
        killer.raze()
        return killer.run("sync", at=at) == KILLED

    def check() -> None:
        killer.sync()
        scene.check(whole, reachable=False)
        assert host.beyond.reach(UPLINK, 9100) == Answer("chooser", BEYOND)

    every_point(attach, check, step=FEW)
