"""A whole throwaway host for a test, and a machine beyond its uplink.

A :class:`Host` has network, mount and process namespaces of its own, and its own runc root, state,
run and netns directories. Nothing of the machine that the test runs on is touched, and everything
of the host ends with its first process, whose end is the end of the pipe that this one holds.

::

    beyond 192.0.2.1 ──── 192.0.2.2 uplink · host · netns0 172.19.0.1 ──── eth0 · container
           2001:db8::1    2001:db8::2

Each module adds one capability to the one before it: `machine` (namespaces and commands),
`containers` (runc), `watched` (the watcher, and its `service`), `traces` (what it has left), and
`host` (what becomes of a container). `place` is a network namespace of any of them.
"""

from __future__ import annotations

from tests.support.host.addresses import BEYOND, BEYOND6, GATEWAY, SUBNET, UPLINK, UPLINK6
from tests.support.host.containers import Container
from tests.support.host.host import Host, HostMaker
from tests.support.host.place import Json, Place
from tests.support.host.service import Service
from tests.support.host.watched import GATE_OFF, toml

__all__ = [
    "BEYOND",
    "BEYOND6",
    "GATEWAY",
    "GATE_OFF",
    "SUBNET",
    "UPLINK",
    "UPLINK6",
    "Container",
    "Host",
    "HostMaker",
    "Json",
    "Place",
    "Service",
    "toml",
]
