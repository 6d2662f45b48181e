"""Kernel settings that a container asks for: in its own network namespace, and nowhere else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from handlers.kernel import sysctl
from tests.support.host import Host, HostMaker
from tests.support.traffic import entered
from tests.support.waiting import eventually
from watcher.containers.sysctls import parse_sysctls
from watcher.model.errors import BadValue

if TYPE_CHECKING:
    from tests.support.host import Place

BACK: Final = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\n'
ROOT: Final = Path("/proc/sys/net")
NOTIFY: Final = "ipv4/conf/eth0/arp_notify"
BY_ITSELF: Final = frozenset(["netfilter/nf_conntrack_count"])
"""A setting that only counts."""


def asking(**values: str) -> dict[str, str]:
    """The annotation; a name has `_` for each slash of the path below `net.ipv4.conf`."""
    wanted = {f"net.ipv4.conf.{name.replace('__', '.')}": value for name, value in values.items()}
    return {"io.watcher.sysctl": json.dumps(wanted)}


def value(place: Place, name: str) -> str:
    return place.run("cat", f"{ROOT}/{name}").stdout.strip()


@pytest.mark.parametrize("user_namespace", [False, True], ids=["", "user namespace"])
def test_they_are_set_before_the_first_instruction(
    make_host: HostMaker, *, user_namespace: bool
) -> None:
    host = make_host(BACK)
    host.service()
    wanted = {
        "net.ipv4.conf.eth0.arp_notify": "1",
        "net/ipv4/conf/eth1/arp_ignore": "2",
        "net.ipv4.conf.default.arp_announce": "2",
        "net.ipv4.tcp_rmem": "4096 65536\t1000000",
    }
    annotations = {"io.watcher.network": "default,back", "io.watcher.sysctl": json.dumps(wanted)}
    paths = [f"{ROOT}/{name.replace('.', '/').removeprefix('net/')}" for name in wanted]
    done = host.run_to_end(
        "web", ("cat", *paths), annotations=annotations, user_namespace=user_namespace
    )
    assert done.stdout.split() == ["1", "2", "2", "4096", "65536", "1000000"]
    assert value(host.here, "ipv4/conf/default/arp_announce") == "0"


REFUSED: Final = {
    "no such setting": ({"eth0__arp_notfy": "1"}, "eth0.arp_notfy = 1", "no such setting"),
    "no such interface": ({"eth7__arp_notify": "1"}, "eth7.arp_notify = 1", "no such setting"),
    "a directory": ({"eth0": "1"}, "conf.eth0 = 1", "no such setting"),
    "a bad value": ({"eth0__arp_notify": "yes"}, "arp_notify = yes", "refuses the value"),
    "more than a value": ({"eth0__arp_notify": "1 2"}, "arp_notify = 1 2", "refuses the value"),
    "only read": ({"eth0__mc_forwarding": "1"}, "mc_forwarding = 1", "can only be read"),
}


def test_one_that_cannot_be_set_refuses_the_start(served: Host) -> None:
    before = served.leftovers()
    for kind, (wanted, written, reason) in REFUSED.items():
        annotations = asking(eth0__arp_filter="1", **wanted)
        done = served.run_to_end("bad", ("true",), check=False, annotations=annotations)
        assert done.returncode != 0, kind
        told = served.inspect("bad")["reason"]
        assert told.startswith('container "bad": io.watcher.sysctl = '), kind
        assert written in told, kind
        assert reason in told, kind
        assert "; " in told, kind  # and what to do
        assert served.leftovers() == before, kind


def test_what_a_container_changes_later_stays_until_its_interface_is_lost(host: Host) -> None:
    service = host.service()
    web = host.attach("web", annotations=asking(eth0__arp_notify="1", all__arp_filter="1"))
    for name in (NOTIFY, "ipv4/conf/all/arp_filter"):
        assert value(web.place, name) == "1"
        web.place.run("sh", "-c", f"echo 0 > {ROOT}/{name}")
    service.restart()
    assert host.watcher("sync").stdout == "nothing to do\n"
    web.place.run("ip", "addr", "flush", "dev", "eth0")
    eventually(lambda: web.place.addresses() != [])
    assert value(web.place, NOTIFY) == value(web.place, "ipv4/conf/all/arp_filter") == "0"

    host.here.run("ip", "link", "delete", web.veth)
    eventually(lambda: "eth0" in web.place.links() and value(web.place, NOTIFY) == "1")


def test_a_container_in_anothers_sandbox_sets_nothing(served: Host) -> None:
    served.attach("db")
    path = served.netns_dir / "db"
    annotations = asking(eth0__arp_notify="1")
    served.bundle("bad", ("true",), annotations=annotations, netns_path=path)
    assert served.launch("run", "bad", check=False).returncode != 0
    assert "it is in the sandbox of db, which has its settings" in served.inspect("bad")["reason"]


def test_nothing_that_may_be_set_in_a_sandbox_changes_anything_elsewhere(served: Host) -> None:
    """Each file that its namespace shows gets another value, and all others stay as they were."""
    web = served.attach("web")
    others = {"the host's": served.here.netns, "the machine's": os.open("/proc/self/ns/net", 0)}
    before = {who: settings(netns) for who, netns in others.items()}
    changed = refused = 0
    try:
        with entered(web.place.netns):
            for path, old in settings(web.place.netns).items():
                try:
                    parse_sysctls(json.dumps({f"net/{path}": "1"}))
                except BadValue as error:
                    assert path.endswith("/disable_ipv6") or "the whole host" in error.reason  # noqa: PT017
                    refused += 1
                    continue
                changed += change(path, old)
        for who, netns in others.items():
            now = settings(netns)
            assert {
                path: (who, old, now.get(path))
                for path, old in before[who].items()
                if now.get(path) != old and path not in BY_ITSELF
            } == {}
    finally:
        put_back(before["the machine's"])
        os.close(others["the machine's"])
    assert changed > 300
    assert refused >= 5


def settings(netns: int) -> dict[str, str]:
    """What is to be read below `/proc/sys/net` in a namespace, and each value."""
    found = {}
    with entered(netns):
        for directory, _, names in os.walk(ROOT):
            for name in names:
                with suppress(OSError):
                    path = Path(directory, name)
                    found[str(path.relative_to(ROOT))] = path.read_text()
    return found


def other_values(old: str) -> Iterator[str]:
    """Values near `old`, of which a setting that takes any other one takes some."""
    if (last := re.search(r"-?\d+(?=\D*$)", old.strip())) is not None:
        for step in (1, -1, 2, -2):
            yield f"{old[: last.start()]}{int(last[0]) + step}"
    yield from ("1", "0")


def change(path: str, old: str) -> bool:
    """Gives a setting another value, in the namespace that this thread is in, if it takes one."""
    for new in other_values(old):
        with suppress(OSError):
            sysctl.put(path, new)
            if (ROOT / path).read_text() != old:
                return True
    return False


def put_back(before: dict[str, str]) -> None:
    """Gives back, in the namespace that this thread is in, what has changed."""
    for path, old in before.items():
        with suppress(OSError):
            if (ROOT / path).read_text() != old and path not in BY_ITSELF:
                sysctl.put(path, old.strip())
