"""Who reads has the event `attached` when the container's program has its first instruction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.brokers import stopped_broker
from tests.support.reading import Reading
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.bundles import Spec
    from tests.support.host import Host, Service


def in_the_hosts_pids(spec: Spec) -> None:
    """The container sees the host's processes."""
    namespaces = spec["linux"]["namespaces"]
    spec["linux"]["namespaces"] = [one for one in namespaces if one["type"] != "pid"]


def pid_on_its_host(service: Service) -> str:
    lines = Path(f"/proc/{service.pid}/status").read_text().splitlines()
    return next(line.split()[-1] for line in lines if line.startswith("NSpid:"))


def test_the_line_is_handed_over_before_the_program_begins(host: Host) -> None:
    """The first that the program does is to kill the service, which has sent the line by then."""
    service = host.service()
    with Reading(host.run_dir) as reading:
        with stopped_broker(service):
            program = ("busybox", "kill", "-KILL", pid_on_its_host(service))
            host.bundle("web", program, edit=in_the_hosts_pids)
            host.launch("run", "web", "--detach")
            eventually(lambda: not service.running, what="the end of the service")
            assert not any(event.containers for event in reading.events)
        event = reading.event("attached", "web")
        (interface,) = event.interfaces
        assert interface.addresses == ("172.19.0.2",)
