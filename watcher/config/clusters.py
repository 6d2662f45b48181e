"""Checks what a configuration says of many hosts: `[cluster]`, and networks with `cluster`."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from watcher.config.rules import ConfigKeyError
from watcher.config.ula import unique_local_subnet
from watcher.model.cluster import MOST_NETWORKS, block_prefix

if TYPE_CHECKING:
    from watcher.config.rules import KeyPath
    from watcher.config.settings import Cluster, Config
    from watcher.model.address import Address
    from watcher.model.network import Network

HOST: Final = re.compile("[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
"""The name of a host, which is a part of keys in etcd."""

_PREFIX: Final = re.compile("(/[a-zA-Z0-9_.-]{1,64}){1,8}")
_MOST_ENDPOINTS: Final = 16
_FILES: Final = ("ca", "cert", "key", "password_file")


def check_clusters(config: Config) -> None:
    """Check every rule.

    Raises:
        ConfigKeyError: for the first that does not hold.
    """
    cluster = config.cluster
    _check_endpoints(cluster)
    _check_credentials(cluster)
    if cluster.host and not HOST.fullmatch(cluster.host):
        raise ConfigKeyError(
            ("cluster", "host"), "not a host's name", "write up to 63 of a-z, 0-9, - and ."
        )
    if not _PREFIX.fullmatch(cluster.prefix):
        raise ConfigKeyError(
            ("cluster", "prefix"), "not a prefix of keys", 'write one like "/watcher", without a'
            " / at its end",
        )  # fmt: skip
    _check_address(cluster)
    clustered = [network for network in config.networks.values() if network.cluster]
    if len(clustered) > MOST_NETWORKS:
        raise ConfigKeyError(("network",), f"more than {MOST_NETWORKS} with cluster = true")
    for network in clustered:
        _check_network(network, cluster)


def _check_endpoints(cluster: Cluster) -> None:
    if len(cluster.etcd) > _MOST_ENDPOINTS:
        raise ConfigKeyError(("cluster", "etcd"), f"more than {_MOST_ENDPOINTS}")
    schemes = set()
    for index, text in enumerate(cluster.etcd):
        at: KeyPath = ("cluster", "etcd", index)
        remedy = 'write it like "https://10.0.0.1:2379"'
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError:
            raise ConfigKeyError(at, "not a URL", remedy) from None
        rest = url.path.strip("/") or url.query or url.fragment
        if url.scheme not in ("http", "https") or not url.hostname or port is None or rest:
            raise ConfigKeyError(at, "not the URL of a member of etcd", remedy)
        if url.username is not None or url.password is not None:
            raise ConfigKeyError(at, "has a user in it", "write `user` and `password_file`")
        if text in cluster.etcd[:index]:
            raise ConfigKeyError(at, "is there twice", "remove it")
        schemes.add(url.scheme)
    if len(schemes) > 1:
        raise ConfigKeyError(("cluster", "etcd"), "has http and https", "write https for all")
    if schemes == {"http"} and (cluster.ca or cluster.cert):
        key = "ca" if cluster.ca else "cert"
        raise ConfigKeyError(("cluster", key), "means nothing to http", "write https in etcd")


def _check_credentials(cluster: Cluster) -> None:
    for key in _FILES:
        path = getattr(cluster, key)
        if path and (not path.startswith("/") or "\0" in path):
            raise ConfigKeyError(("cluster", key), "not an absolute path")
    for one, other in (("cert", "key"), ("user", "password_file")):
        if bool(getattr(cluster, one)) != bool(getattr(cluster, other)):
            there, missing = (one, other) if getattr(cluster, one) else (other, one)
            raise ConfigKeyError(
                ("cluster", there), f"is there without {missing}", f"write {missing} as well"
            )


def _check_address(cluster: Cluster) -> None:
    if not cluster.address:
        return
    at, remedy = ("cluster", "address"), 'write one like "10.0.0.1"'
    try:
        address = ip_address(cluster.address)
    except ValueError:
        raise ConfigKeyError(at, "not an IPv4 or IPv6 address", remedy) from None
    if not can_be_reached(address):
        raise ConfigKeyError(at, "other hosts cannot reach that", remedy)


def can_be_reached(address: Address) -> bool:
    """Whether other hosts could reach a host by `address`.

    The zone of an IPv6 address is any text, and means something to one host alone.
    """
    unfit = address.is_unspecified or address.is_multicast or address.is_loopback
    zone = isinstance(address, IPv6Address) and address.scope_id is not None
    return not (unfit or zone or address.is_link_local)


def _check_network(network: Network, cluster: Cluster) -> None:
    at: KeyPath = ("network", network.name)
    if network.mode != "routed":
        raise ConfigKeyError((*at, "cluster"), "is for routed networks", 'write mode = "routed"')
    if not cluster.etcd:
        raise ConfigKeyError(
            (*at, "cluster"), "is true, but this host is in no cluster",
            'write etcd = ["https://…:2379"] below [cluster]',
        )  # fmt: skip
    if network.block & (network.block - 1):
        raise ConfigKeyError((*at, "block"), "not a power of two", "write 64, 128, 256, …")
    for index, subnet in enumerate(network.subnets):
        if subnet.version == 6 and subnet == unique_local_subnet(network.name):
            raise ConfigKeyError(
                (*at, "subnets", index), "is this host's own", "write one for all hosts"
            )
        if block_prefix(subnet, network.block) <= subnet.prefixlen:
            raise ConfigKeyError(
                (*at, "subnets", index), f"has no room for two blocks of {network.block} addresses",
                "write a larger subnet, or a smaller block",
            )  # fmt: skip
        if network.backend == "routes" and cluster.address:
            _check_routable(network, index, cluster)


def _check_routable(network: Network, index: int, cluster: Cluster) -> None:
    if network.subnets[index].version == 6 and ip_address(cluster.address).version == 4:
        raise ConfigKeyError(
            ("network", network.name, "backend"),
            "IPv6 cannot be routed by hosts with IPv4 addresses",
            'write "auto", or an IPv6 `address` below [cluster]',
        )
