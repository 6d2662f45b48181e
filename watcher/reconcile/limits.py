"""What a container may not have: by the limits of its root, or in the sandbox that it joins."""

from __future__ import annotations

from collections.abc import Iterable, Set

from watcher.config.settings import Root
from watcher.model import keys
from watcher.model.errors import InvalidRequest
from watcher.model.naming import is_allowed_name, sysctl_name
from watcher.model.network import Network
from watcher.model.policy.limits import SandboxLimits
from watcher.model.request import Request
from watcher.model.sandbox import Sandbox
from watcher.reconcile import ports


def of_sandbox(request: Request, root: Root) -> SandboxLimits:
    """What a new sandbox with that request, in `root`, is limited to."""
    most = root.limits
    return SandboxLimits(
        egress=request.egress,
        ingress=request.ingress,
        policy=most.policy,
        ingress_bandwidth=request.ingress_bandwidth,
        egress_bandwidth=request.egress_bandwidth,
        connections=request.connections,
        most_ingress_bandwidth=most.ingress_bandwidth,
        most_egress_bandwidth=most.egress_bandwidth,
        most_connections=most.connections,
    )


def check_join(request: Request, inside: Sandbox, root: Root) -> None:
    """Raise InvalidRequest for a request that a member of `inside` cannot have, or may not."""
    _check_has(request, inside)
    check_share(inside.id, root, {member.root for member in inside.members})
    _check_names(request, root)
    ports.check_allowed(request, root)


def _check_has(request: Request, inside: Sandbox) -> None:
    """Raise InvalidRequest for what the sandbox does not have already."""
    remedy = "remove the annotation, or give it a network namespace of its own"
    if request.networks and not _are_of(inside, request.networks):
        raise InvalidRequest(
            keys.NETWORK, ",".join(request.networks),
            f"it is in the sandbox of {inside.id}, which has its networks", remedy,
        )  # fmt: skip
    macs = {interface.mac for interface in inside.interfaces[:1]}
    for key, values, there in (
        (keys.IP, request.addresses, set(inside.leased)),
        (keys.MAC, (request.mac,) if request.mac else (), macs),
    ):  # fmt: skip
        if not there.issuperset(values):
            raise InvalidRequest(
                key, ",".join(map(str, values)),
                f"it is in the sandbox of {inside.id}, which has its addresses", remedy,
            )  # fmt: skip
    if request.sysctl:
        path, value = request.sysctl[0]
        raise InvalidRequest(
            keys.SYSCTL, f"{sysctl_name(path)} = {value}",
            f"it is in the sandbox of {inside.id}, which has its settings",
            "write it there, or give this one a network namespace of its own",
        )  # fmt: skip


def _are_of(inside: Sandbox, networks: tuple[str, ...]) -> bool:
    """Whether `networks` are those of `inside`; one that was changed while it ran may have more."""
    if inside.kept:
        return set(inside.networks).issuperset(networks)
    return networks == inside.networks


def check_share(id_: str, root: Root, roots: Set[str]) -> None:
    """Raise InvalidRequest if `root` may not join the sandbox `id_` of members in `roots`."""
    share = root.limits.share
    if share == "none" or (share == "root" and root.path not in roots):
        raise InvalidRequest(
            keys.SHARE, id_,
            f"root {root.path} may not join that sandbox", f"it has limits.share = {share}",
        )  # fmt: skip


def check_new(request: Request, networks: Iterable[Network], root: Root) -> None:
    """Raise InvalidRequest for a request for `networks` that the limits of `root` do not allow."""
    limits = root.limits
    for network in networks:
        if limits.networks and network.name not in limits.networks:
            raise InvalidRequest(
                keys.NETWORK, network.name, ports.out_of_limits(root),
                f"name one of {', '.join(limits.networks)}",
            )  # fmt: skip
    if not limits.fixed and (request.addresses or request.mac):
        key = keys.IP if request.addresses else keys.MAC
        value = ",".join(map(str, request.addresses)) or request.mac
        raise InvalidRequest(key, value, ports.out_of_limits(root), "remove the annotation")
    _check_names(request, root)
    ports.check_allowed(request, root)


def _check_names(request: Request, root: Root) -> None:
    for name in request.names:
        if not is_allowed_name(name, root.limits.names):
            raise InvalidRequest(
                keys.NAME, name, ports.out_of_limits(root),
                f"write a name like {', '.join(root.limits.names)}",
            )  # fmt: skip
