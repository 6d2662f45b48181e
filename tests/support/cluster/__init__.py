"""A cluster of throwaway hosts on an underlay of two links, with a real etcd.

`underlay` has the links and the router, `hosts` the hosts on them, `cluster` all of it together.
`sizes` tells what sizes of packets pass between two places, `by_hand` makes routes without the
program.
"""

from __future__ import annotations

from tests.support.cluster.cluster import Cluster
from tests.support.cluster.hosts import NETWORK, SUBNETS, ClusterHost
from tests.support.cluster.underlay import FAR, LAN, Link, Station, Underlay

__all__ = [
    "FAR",
    "LAN",
    "NETWORK",
    "SUBNETS",
    "Cluster",
    "ClusterHost",
    "Link",
    "Station",
    "Underlay",
]
