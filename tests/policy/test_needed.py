"""Rejected by lists of sources and by bounds."""

from __future__ import annotations

import json

from tests.support.host import BEYOND, HostMaker
from tests.support.reading import Reading


def test_sources_and_bounds(make_host: HostMaker) -> None:
    host = make_host()
    service = host.service()
    host.beyond.serve(tcp=(80,))
    asked = {"io.watcher.ingress": "192.0.2.0/24:8081/tcp,!host", "io.watcher.connections": "2"}
    asked["io.watcher.egress"] = "any"
    web = host.attach("web", ports="8080:80,8081:81", annotations=asked)
    web.serve(tcp=(80, 81))
    with Reading(host.run_dir) as reading:
        assert host.beyond.reach("192.0.2.2", 8080) is None
        first = reading.event("rejected", "web")
        assert (first.annotation, first.value) == ("io.watcher.ingress", f"{BEYOND}:8080/tcp")
        assert host.here.reach("172.19.0.1", 8081) is None
        event = reading.event("rejected", "web", since=first.seq)
        assert (event.annotation, event.value) == ("io.watcher.ingress", "host:8081/tcp"), event
        streams = [web.place.stream(BEYOND, 80) for _ in range(2)]
        assert web.reach(BEYOND, 80) is None
        reading.event("connections-full", "web")
        for stream in streams:
            stream.close()
        (eth0,) = json.loads(host.watcher("inspect", "web").stdout)["limits"]
        assert all(eth0["rejected"][d] for d in ("ingress", "connections")), eth0
        assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
    assert service
