"""Names across hosts: containers of living hosts resolve each other, as on one host."""

from __future__ import annotations

import base64
import json
import signal

import dns.message
import pytest

from tests.cluster.conftest import ClusterMaker
from tests.support.cluster import NETWORK, Cluster, ClusterHost
from tests.support.host import Container
from tests.support.name_service import NameService, addresses, ask, outcome
from tests.support.waiting import PATIENCE, eventually
from watcher.cluster.endpoints.reading import read

GATEWAY = "172.19.0.1"

BACK = """
[network.back]
mode = "routed"
cluster = true
bridge = "netns1"
subnets = ["172.20.0.0/16"]
"""


class Named:
    """A cluster in which each host has a name service.

    Attributes:
        cluster: the cluster.
        names: the name services, by host.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.names: dict[str, NameService] = {}
        for name, host in cluster.hosts.items():
            host.join()
            self.names[name] = NameService(host)
        for host in cluster.hosts.values():
            host.provided()

    def host(self, name: str) -> ClusterHost:
        return self.cluster.hosts[name]

    def attach(self, host: str, id_: str, *names: str, **more: str) -> Container:
        """A container."""
        annotations = {"io.watcher.name": ",".join(names)} if names else {}
        annotations |= {f"io.watcher.{key}": value for key, value in more.items()}
        return self.host(host).attach(id_, annotations=annotations)

    def versions(self) -> dict[str, int]:
        """How often each of them was written."""
        text = self.cluster.etcd.ctl(
            "get", "--prefix", "--write-out=json", "--", "/watcher/v1/endpoints/"
        ).stdout
        kvs = json.loads(text).get("kvs", [])
        keys = [base64.b64decode(kv["key"]).decode().split("/", 4)[4] for kv in kvs]
        return {key: kv["version"] for key, kv in zip(keys, kvs, strict=True)}

    def endpoints(self) -> dict[str, dict[str, object]]:
        """What etcd has, by `HOST/ID`."""
        found = self.cluster.etcd.under("/watcher/v1/endpoints/")
        return {
            key.removeprefix("/watcher/v1/endpoints/"): json.loads(value)
            for key, value in found.items()
        }


@pytest.fixture
def named(cluster: Cluster) -> Named:
    """See :class:`Named`."""
    return Named(cluster)


def found(asks: Container, name: str, kind: str = "A") -> set[str]:
    """The addresses that a container gets."""
    return addresses(ask(asks.place, name, kind, server=GATEWAY))


def resolves(asks: Container, name: str, *expected: str) -> None:
    """Waits until a container gets these addresses of IPv4 and no others."""
    eventually(lambda: found(asks, name) == set(expected), what=f"{name} is {expected}")


def test_containers_find_each_other_by_name_wherever_they_run(named: Named) -> None:
    boxes = {host: named.attach(host, f"web-{host}", "web", host) for host in named.cluster.hosts}
    every = [box.address for box in boxes.values()]
    for box in boxes.values():
        resolves(box, "web", *every)
        for other, there in boxes.items():
            for name in (other, f"web-{other}", f"{other}.default.watcher.internal"):
                resolves(box, name, there.address)
            assert found(box, other, "AAAA")
    reverse = ".".join(reversed(boxes["c"].address.split("."))) + ".in-addr.arpa"
    answer = ask(boxes["a"].place, reverse, "PTR", server=GATEWAY)
    assert answer.answer[0][0].to_text() == "web.default.watcher.internal."
    named.host("c").kill("web-c")
    named.host("c").delete("web-c")
    resolves(boxes["a"], "web", boxes["a"].address, boxes["b"].address)
    assert outcome(ask(boxes["a"].place, "web-c", server=GATEWAY)) == "NXDOMAIN"
    eventually(lambda: {key.partition("/")[0] for key in named.endpoints()} == {"a", "b"})


def test_a_host_that_falls_silent_takes_its_names_away_and_returns_with_them(
    named: Named,
) -> None:
    there, asks = named.attach("b", "web"), named.attach("a", "asks")
    resolves(asks, "web", there.address)
    named.host("b").speaking.kill9()
    resolves(asks, "web")
    assert outcome(ask(asks.place, "web", server=GATEWAY)) == "NXDOMAIN"
    before = named.endpoints()
    named.host("b").speaking.start()
    resolves(asks, "web", there.address)
    assert named.endpoints() == before


def test_names_stay_while_etcd_or_the_process_that_asks_it_is_away(named: Named) -> None:
    web, there, asks = (named.attach(*one) for one in (("b", "web"), ("c", "db"), ("a", "asks")))
    at = web.address
    resolves(asks, "web", at)
    resolves(asks, "db", there.address)
    named.host("a").speaking.stop()
    named.names["a"].logged("`watcher cluster` is away, what it told last stays in use")
    checked = named.host("a").watcher("check", check=False).stdout
    assert "the name service does not hear of other hosts" in checked
    named.host("b").kill("web")
    named.host("b").delete("web")
    eventually(lambda: "b" not in {key.partition("/")[0] for key in named.endpoints()})
    assert found(asks, "web") == {at}
    named.host("a").speaking.start()
    resolves(asks, "web")

    named.cluster.etcd.stop()
    eventually(lambda: not is_connected(named, "a"), what="etcd is away")
    assert found(asks, "db") == {there.address}
    named.host("a").speaking.restart()
    assert not is_connected(named, "a")
    local = named.attach("a", "local")
    resolves(asks, "local", local.address)
    assert found(asks, "db") == {there.address}
    resolves(asks, "local", local.address)
    named.cluster.etcd.start()
    resolves(there, "local", local.address)


def is_connected(named: Named, host: str) -> bool:
    """Whether etcd answers a host, as it says."""
    there = named.host(host)
    status = read(str(there.seen(there.run_dir)), PATIENCE).status
    return status is not None and status.connected


def test_after_a_restart_nothing_is_written_that_etcd_has(named: Named) -> None:
    host = named.host("a")
    boxes = [named.attach("a", f"web-{number}") for number in range(3)]
    resolves(boxes[0], "web-2", boxes[2].address)
    eventually(lambda: len(named.endpoints()) == 3)
    versions = named.versions()
    host.speaking.restart()
    host.serving.restart()
    host.attach("new")
    eventually(lambda: len(named.endpoints()) == 4)
    assert {key: named.versions()[key] for key in versions} == versions
    host.speaking.stop()
    host.kill("web-1")
    host.delete("web-1")
    host.speaking.start()
    eventually(lambda: len(named.endpoints()) == 3)


def test_an_interface_that_is_connected_later_and_one_that_goes(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    cluster.start_etcd()
    cluster.add_three(NETWORK + BACK)
    named = Named(cluster)
    web, asks = named.attach("a", "web"), named.attach("b", "asks")
    resolves(asks, "web", web.address)
    host = named.host("a")
    host.watcher("connect", "web", "back")
    both = named.attach("b", "both", network="back")
    at_back = eventually(
        lambda: addresses(ask(both.place, "web", server="172.20.0.1")), what="it is found in back"
    )
    assert all(address.startswith("172.20.") for address in at_back)
    assert found(asks, "web") == {web.address}
    host.watcher("disconnect", "web", "back")
    eventually(lambda: outcome(ask(both.place, "web", server="172.20.0.1")) == "NXDOMAIN")


def test_a_network_that_loses_its_names_and_gets_them_back(named: Named) -> None:
    web, asks = named.attach("b", "web"), named.attach("a", "asks")
    resolves(asks, "web", web.address)
    host = named.host("b")
    before = host.config.read_text()
    without = before.replace("cluster = true", "cluster = true\nnames = false", 1)
    for text, left in ((without, {"a"}), (before, {"a", "b"})):
        host.config.write_text(text)
        host.serving.signal(signal.SIGHUP)
        eventually(lambda left=left: {key.partition("/")[0] for key in named.endpoints()} == left)  # type: ignore[misc]
        resolves(asks, "web", *([web.address] if "b" in left else []))


def test_what_another_host_claims_counts_in_its_blocks_alone(named: Named) -> None:
    asks, web = named.attach("a", "asks"), named.attach("b", "web")
    resolves(asks, "web", web.address)
    eventually(lambda: len(named.versions()) == 2, what="both are written")
    own = {*named.versions()}
    claims = {
        "asks": asks.address, "gateway": GATEWAY, "elsewhere": "198.51.100.7", "good": web.address,
    }  # fmt: skip
    for number, (name, address) in enumerate(claims.items(), 100):
        value = {"names": [[name]], "addresses": {"default": [address]}}
        named.cluster.etcd.put(f"/watcher/v1/endpoints/b/{number}", json.dumps(value))
        named.cluster.etcd.put(f"/watcher/v1/endpoints/nobody/{number}", json.dumps(value))
    named.cluster.etcd.put("/watcher/v1/endpoints/c/1", "<html>")
    named.cluster.etcd.put("/watcher/v1/endpoints/", "no key")
    resolves(asks, "asks", asks.address)
    for name in ("gateway", "elsewhere"):
        assert outcome(ask(asks.place, name, server=GATEWAY)) == "NXDOMAIN"
    named.host("a").speaking.logged("an endpoint in etcd does not count")
    # Each host removes what it has not written.
    expected = {*(f"nobody/{number}" for number in range(100, 104)), *own, ""}
    eventually(lambda: {*named.versions()} == expected)


def first_answer(asks: Container, name: str) -> dns.message.Message:
    """The answer of a name service that begins; before it listens, the kernel refuses."""
    return eventually(lambda: ask(asks.place, name, server=GATEWAY), what="it listens")


def test_a_name_service_that_begins_answers_nothing_wrong(named: Named) -> None:
    web, asks = named.attach("b", "web"), named.attach("a", "asks")
    resolves(asks, "web", web.address)
    for _ in range(4):
        named.names["a"].stop()
        named.names["a"].start()
        assert addresses(first_answer(asks, "web")) == {web.address}
    named.host("a").speaking.stop()
    named.names["a"].stop()
    named.names["a"].start()
    assert addresses(first_answer(asks, "asks")) == {asks.address}
    assert outcome(ask(asks.place, "web", server=GATEWAY)) == "NXDOMAIN"
    named.host("a").speaking.start()
    resolves(asks, "web", web.address)


def test_names_of_containers_that_a_restored_etcd_does_not_know(named: Named) -> None:
    old, asks = named.attach("b", "old"), named.attach("a", "asks")
    resolves(asks, "old", old.address)
    snapshot = named.cluster.etcd.snapshot()
    new = named.attach("b", "new")
    named.host("b").kill("old")
    named.host("b").delete("old")
    resolves(asks, "new", new.address)
    named.cluster.etcd.restore(snapshot)

    def is_right() -> bool:
        names = [one["names"] for key, one in named.endpoints().items() if key.startswith("b/")]
        return names == [[["new"]]] and (found(asks, "new"), found(asks, "old")) == (
            {new.address}, set(),
        )  # fmt: skip

    eventually(is_right)


def test_a_host_that_is_cut_off_from_etcd_or_from_its_peers(named: Named) -> None:
    cluster = named.cluster
    web, asks = named.attach("b", "web"), named.attach("a", "asks")
    resolves(asks, "web", web.address)
    resolves(web, "asks", asks.address)
    cluster.cut("a", "b")
    late = named.attach("b", "late")
    resolves(asks, "late", late.address)
    cluster.heal()
    cluster.cut_from_etcd("b")
    resolves(asks, "web")
    assert found(web, "asks") == {asks.address}
    own = named.attach("b", "own")
    resolves(web, "own", own.address)
    cluster.heal()
    for there in (web, own, late):
        resolves(asks, there.id, there.address)


def test_the_names_of_a_host_that_is_removed(named: Named) -> None:
    web, asks = named.attach("b", "web"), named.attach("a", "asks")
    resolves(asks, "web", web.address)
    host = named.host("b")
    host.speaking.kill9()
    host.serving.kill9()
    named.host("a").watcher("hosts", "rm", "b", "--force")
    resolves(asks, "web")
    assert {key.partition("/")[0] for key in named.endpoints()} == {"a"}
    host.serving.start()
    host.speaking.start()
    resolves(asks, "web", web.address)
