"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from typing import Final

import bench.cluster_size
from bench.cluster_size.measurement import Measurement, Options
from bench.cluster_size.writers import write

_INSIDE: Final = """
ip link set lo up
ip link add uplink type veth peer name beyond
ip link set uplink up
ip link set beyond up
ip addr add 192.168.255.1/16 dev uplink
ip route add default via 192.168.255.254
mount -t tmpfs tmpfs /run
exec "$@"
"""


def main() -> None:
    """Measure, in namespaces of its own."""
    parser = argparse.ArgumentParser(
        "python -m bench.cluster_size", description=bench.cluster_size.__doc__
    )
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=100_000, help="of all hosts together")
    parser.add_argument("--real", type=int, default=3, help="hosts with a `watcher cluster`")
    parser.add_argument("--readers", type=int, default=2, help="processes with the hosts' watches")
    parser.add_argument(
        "--rates", type=int, nargs="*", default=[10, 25, 50, 100], help="starts a second"
    )
    parser.add_argument("--phase", type=float, default=30.0, help="seconds of each")
    parser.add_argument("--disk", default="", metavar="DIR", help="for etcd's data, with fsync(2)")
    parser.add_argument(
        "--before", nargs="*", default=[], metavar="CHECKOUT", help="repairs of an older service"
    )
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        asyncio.run(write(options.write))
    elif options.inside:
        wanted = Options(
            options.hosts, options.endpoints, options.real, options.readers, tuple(options.rates),
            options.phase, options.disk, tuple(options.before),
        )  # fmt: skip
        asyncio.run(Measurement(wanted).run())
    else:
        words = [sys.executable, "-m", "bench.cluster_size", "--inside", *sys.argv[1:]]
        words = ["unshare", "--net", "--mount", "sh", "-ec", _INSIDE, "sh", *words]
        sys.exit(subprocess.run(words, check=False).returncode)


main()
