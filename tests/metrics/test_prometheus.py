"""A real Prometheus scrapes the metrics of a host on which much happens."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from tests.support import packets
from tests.support.exporter import Exporter
from tests.support.host import BEYOND, GATEWAY
from tests.support.name_service import NameService, addresses, ask, outcome
from tests.support.paths import REPOSITORY
from tests.support.prometheus import Prometheus, promtool
from tests.support.waiting import eventually
from watcher.model.names import DNS_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host, HostMaker

ALERTS: Final = REPOSITORY / "deploy/prometheus-alerts.yml"
DASHBOARD: Final = json.loads((REPOSITORY / "deploy/grafana-dashboard.json").read_text())
PAGE: Final = (REPOSITORY / "docs/metrics.md").read_text()
BACK: Final = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24", "fd00:22::/64"]\n'
SHARED: Final = (
    '[network.shared]\nmode = "routed"\nbridge = "shared0"\nsubnets = ["10.9.0.0/16"]\n'
    'cluster = true\n[cluster]\netcd = ["http://127.0.0.1:9"]\nhost = "a"\naddress = "192.0.2.1"\n'
)
"""A clustered network, on a host that does not hear of the others."""

VARIABLES: Final = {"$__rate_interval": "1m", "$instance": ".*", "$container": ".*"}
"""What Grafana would put into an expression."""


def expressions() -> Iterator[str]:
    """Each expression of the dashboard and of the page."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield expression
    yield from re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)


def sent_by_a_stranger(host: Host, name: str) -> None:
    """Has a container send packets from an address that is not its own."""
    place = host.container(name).place
    link = place.link("eth0")
    assert link is not None
    frame = packets.ether(
        link["address"], packets.BROADCAST, packets.IPV4,
        packets.udp("203.0.113.7", "172.19.255.255", 9, b"spoofed"),
    )  # fmt: skip
    packets.Wire(host, place).send(*[frame] * 3)


def inside(host: Host, name: str, counter: str) -> int:
    """A counter of `eth0`, as the container itself sees it."""
    path = f"/sys/class/net/eth0/statistics/{counter}"
    return int(host.container(name).exec("cat", path).stdout)


def test_what_happens_is_what_prometheus_knows(make_host: HostMaker) -> None:
    host = make_host(BACK + SHARED)
    prometheus = Prometheus(host, ALERTS)  # first, because it takes its time
    exporter = Exporter(host)
    host.service()
    names = NameService(host).hears()
    web = host.attach("web", ports="8080:80", annotations={"io.watcher.name": "www"})
    host.share("side", of="web")
    host.attach("both", annotations={"io.watcher.network": "default,back"})
    old = host.attach("old")
    prometheus.scrapes()

    web.exec("ping", "-c", "1", "172.19.0.1")
    for tcp in (False, True):
        assert addresses(ask(web.place, "both", server=GATEWAY, port=DNS_PORT, tcp=tcp))
    assert outcome(ask(web.place, "nobody", server=GATEWAY, port=DNS_PORT)) == "NXDOMAIN"
    sent_by_a_stranger(host, "both")
    new = host.attach("new", annotations={"io.watcher.egress": "none"})
    assert new.reach(BEYOND, 80) is None
    host.delete("old")
    host.gone(old)
    for unknown in ("io.watcher.netwrok", "io.watcher.\N{SKULL}"):  # one cause, whatever they say
        asked = {unknown: "x"}
        assert host.run_to_end("bad", ("true",), check=False, annotations=asked).returncode

    def is_known() -> bool:
        seen = exporter.scrape()
        counters = {
            (counter, unit): seen.value(f"watcher_container_network_{name}_{unit}_total", id="web")
            for counter, name in (("rx", "receive"), ("tx", "transmit"))
            for unit in ("bytes", "packets")
        }
        expected = {
            # What the containers have, of which one shares the sandbox of another.
            ("watcher_containers", "status", "attached"): 3,
            ("watcher_containers", "status", "shared"): 1,
            ("watcher_network_leases_used", "network", "default"): 3,
            ("watcher_network_leases_used", "subnet", "fd00:22::/64"): 1,
            # Neither the addresses of the network itself nor that of the gateway.
            ("watcher_network_leases_free", "subnet", "172.22.0.0/24"): 256 - 3 - 1,
            ("watcher_events_total", "kind", "refused"): 2,
            ("watcher_failures_total", "cause", "unknown-annotation"): 2,
            ("watcher_attach_duration_seconds_count", "", ""): 5,
            ("watcher_detach_duration_seconds_count", "", ""): 1,
            ("watcher_network_blocks", "network", "shared"): 0,
            ("watcher_cluster_connected", "", ""): 0,
            ("watcher_cluster_hosts", "state", "silent"): 0,
            ("watcher_gate_active", "root", str(host.root)): 1,
            ("watcher_names_up", "", ""): 1,
            ("watcher_names_connected", "", ""): 1,
            ("watcher_names_sandboxes", "", ""): 3,
            ("watcher_names_questions_total", "outcome", "nxdomain"): 1,
            ("watcher_names_tcp_connections_total", "", ""): 1,
        }
        known = {
            (name, key, value): seen.value(name, **({key: value} if key else {}))
            for name, key, value in expected
        }
        assert known == expected
        assert seen.value("watcher_gate_hold_duration_seconds_count") >= 5
        assert seen.value("watcher_container_info", id="side", sandbox="web", status="shared")
        spoofed = "watcher_container_network_guard_dropped_packets_total"
        assert seen.value(spoofed, id="both", interface="eth0", network="default") == 3
        assert seen.value(spoofed, id="both", interface="eth1", network="back") == 0
        for (counter, unit), value in counters.items():
            assert value == inside(host, "web", f"{counter}_{unit}") > 0
        return True

    eventually(is_known)
    names.stop()
    eventually(lambda: exporter.value("watcher_names_up") == 0)
    names.start()
    for expression in expressions():
        eventually(lambda e=expression: prometheus.query(e), what=expression)  # type: ignore[misc]
    eventually(lambda: prometheus.query('watcher_container_info{id="new"}'))
    assert prometheus.query('watcher_container_info{id="old"}') == {}
    assert prometheus.query('last_over_time(watcher_container_info{id="old"}[5m])')

    rules = eventually(lambda: [rule for rule in prometheus.rules() if rule["lastEvaluation"]])
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} == {"WatcherStartsRefused"}
    assert prometheus.complaints() == []

    text = exporter.text()
    done = promtool("check", "metrics", stdin=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Each family of docs/metrics.md with its type and its labels."""
    rows = re.findall(r"(?m)^\| `(watcher_\w+)` \| (\w+) \|([^|]*)\|", PAGE)
    return {name: (kind, frozenset(re.findall("`(\\w+)`", labels))) for name, kind, labels in rows}


def test_the_page_has_every_family(make_host: HostMaker) -> None:
    host = make_host(BACK + SHARED)
    host.service()
    web = host.attach("web", annotations={"io.watcher.egress": "none"})
    assert web.reach(BEYOND, 80) is None
    asked = {"io.watcher.ip": "10.0.0.1"}
    assert host.run_to_end("bad", ("true",), check=False, annotations=asked).returncode
    NameService(host).hears()
    text = host.watcher("metrics").stdout
    types = dict(re.findall(r"(?m)^# TYPE (\S+) (\w+)$", text))
    labels: dict[str, set[str]] = {name: set() for name in types}
    for name, in_braces in re.findall(r"(?m)^(\w+)(?:\{(.*)\})? \S+$", text):
        family = re.sub("_(bucket|sum|count)$", "", name)
        labels[family].update(re.findall(r'(\w+)="', in_braces))
        labels[family].discard("le")
    assert {name: (types[name], frozenset(labels[name])) for name in types} == documented()


def test_alerts_fire() -> None:
    assert promtool("check", "rules", ALERTS).returncode == 0
    done = promtool("test", "rules", REPOSITORY / "tests/metrics/alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_can_be_imported() -> None:
    assert isinstance(DASHBOARD["schemaVersion"], int)
    assert DASHBOARD["id"] is None
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    (source,) = [v for v in DASHBOARD["templating"]["list"] if v["type"] == "datasource"]
    assert source["query"] == "prometheus"
    expected = {"type": "prometheus", "uid": f"${{{source['name']}}}"}
    assert all(part["datasource"] == expected for part in parts(DASHBOARD))


def parts(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything of the dashboard that asks Prometheus."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel["targets"]
    yield from (v for v in dashboard["templating"]["list"] if v["type"] == "query")


def test_no_panel_lies_over_another() -> None:
    def cells(of: dict[str, Any]) -> set[tuple[int, int]]:
        at = of["gridPos"]
        assert at["x"] + at["w"] <= 24
        return {(x, y) for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip

    every = [cell for panel in DASHBOARD["panels"] for cell in cells(panel)]
    assert len(every) == len(set(every))
