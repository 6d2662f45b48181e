"""The configuration of the quick start in docs/cluster.md is all that three hosts need."""

from __future__ import annotations

import json
from functools import partial

from tests.cluster.conftest import ClusterMaker
from tests.support.cluster import FAR, LAN
from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually

PORT = 80
URL = "http://10.0.0.9:2379"


def configuration() -> str:
    """That of the page."""
    page = (REPOSITORY / "docs" / "cluster.md").read_text()
    return page.split("## Quick start\n")[1].split("```toml\n")[1].split("```")[0]


def test_three_hosts_by_the_quick_start(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    etcd = cluster.start_etcd(tls=False, auth=False)
    text = configuration().replace(URL, etcd.members[0].url)
    for name, link in (("a", LAN), ("b", LAN), ("c", FAR)):
        # All hosts of a test are one machine, with one host name.
        cluster.add(name, link, f'{text}host = "{name}"\nttl = 5\n', whole=True).join()
    host = cluster.hosts["a"]

    def states() -> list[tuple[str, str, int]]:
        rows = json.loads(host.watcher("hosts", "ls", "--json", check=False).stdout)
        return [(row["host"], row["state"], len(row["blocks"].get("default", ()))) for row in rows]

    eventually(lambda: states() == [("a", "this", 2), ("b", "alive", 2), ("c", "alive", 2)])
    client = host.provided().attach("client")
    for name in ("b", "c"):
        web = cluster.hosts[name].provided().attach(f"web-{name}")
        web.serve(tcp=(PORT,))
        eventually(partial(client.reach, web.address, PORT), what=f"{name}, asked by a")
