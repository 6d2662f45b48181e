"""Which limits a sandbox can be held to: by its networks, its root, and what else it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.model import keys
from watcher.model.errors import InvalidRequest
from watcher.model.policy.access import access
from watcher.model.policy.entries import DIRECTIONS
from watcher.model.policy.holding import by_neighbours, cannot_hold
from watcher.model.policy.limits import UNLIMITED, SandboxLimits, least
from watcher.model.policy.rates import rate_text
from watcher.model.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from watcher.config.settings import Root
    from watcher.model.network import Network
    from watcher.model.policy.access import AccessList
    from watcher.model.policy.entries import Direction
    from watcher.model.sandbox import Sandbox

_KEYS: Final = {"egress": keys.EGRESS, "ingress": keys.INGRESS}
_NUMBERS: Final[tuple[tuple[str, str, Callable[[int], str]], ...]] = (
    ("ingress_bandwidth", keys.INGRESS_BANDWIDTH, rate_text),
    ("egress_bandwidth", keys.EGRESS_BANDWIDTH, rate_text),
    ("connections", keys.CONNECTIONS, str),
)
"""The limits that are a number: the attribute, the annotation, and how it is written."""

_FEWER: Final = "write fewer ranges of ports, or fewer prefixes in others"


def asked_by(asks: Request | SandboxLimits) -> Iterator[tuple[str, str]]:
    """The annotations by which a container asks for limits, or that made those of a sandbox."""
    for direction in DIRECTIONS:
        entries = getattr(asks, direction)
        if entries is not None:
            yield _KEYS[direction], ",".join(entries) or "none"
    for name, key, text in _NUMBERS:
        value = getattr(asks, name)
        if value is not None:
            yield key, text(value)


def refuse_without_sandbox(request: Request, reason: str) -> None:
    """Raise InvalidRequest if a container that gets no sandbox for `reason` asks for limits."""
    for key, value in asked_by(request):
        raise InvalidRequest(
            key, value, f"{reason.partition(';')[0]}, where nothing limits it",
            "give it a network namespace of its own, or remove the annotation",
        )  # fmt: skip


def check_new(
    request: Request,
    limits: SandboxLimits,
    networks: Collection[Network],
    root: Root,
    configured: Mapping[str, Network],
) -> None:
    """Raise InvalidRequest for `limits` that a new sandbox in `networks` cannot be held to."""
    if limits == UNLIMITED and not any(network.policed for network in networks):
        return
    for name, key, text in _NUMBERS:
        asked, most = getattr(request, name), getattr(root.limits, name)
        if asked is not None and most is not None and asked > most:
            raise InvalidRequest(
                key, text(asked), f"the limits of root {root.path} do not allow it",
                f"ask for {text(most)} at the most",
            )  # fmt: skip
    if all(network.internal for network in networks):
        for direction in DIRECTIONS:
            what = "has no way out" if direction == "egress" else "publishes nothing"
            if getattr(request, direction) is not None:
                raise _refused(
                    request, direction, f"its network is internal and {what} anyway",
                    "remove the annotation, or name a network that is not internal",
                )  # fmt: skip
    check_networks(limits, networks, configured, request)
    _check_names(limits, networks, configured, request)


def check_networks(
    limits: SandboxLimits,
    networks: Iterable[Network],
    configured: Mapping[str, Network],
    request: Request,
) -> None:
    """Raise InvalidRequest for a network in which a sandbox cannot be held to `limits`.

    `request` says which annotation is to blame, if it is not the network's choice.
    """
    forced = configured.get(limits.policy)
    if limits.policy and forced is None:
        raise InvalidRequest(
            keys.NETWORK, limits.policy, "the network whose policy is forced upon it is gone",
            f"add [network.{limits.policy}] to the configuration, or change limits.policy",
        )  # fmt: skip
    for network in networks:
        by = next((d for d in DIRECTIONS if getattr(limits, d) is not None), None)
        key = cannot_hold(network) if by is not None or forced is not None else ""
        if key:
            reason = f"network {network.name} has {key}, so nobody is held to a list there"
            raise _refused(request, by, reason, f"name another network, or remove {key} there")
        for direction in DIRECTIONS:
            held = access(direction, limits, network, forced)
            if held is not None:
                _check_list(held, network, request)


def _check_list(held: AccessList, network: Network, request: Request) -> None:
    if held.too_large:
        reason = f"together with the list of its network, {held.too_large}"
        raise _refused(request, held.direction, reason, _FEWER)
    if held.direction == "ingress" and by_neighbours(network, held):
        raise _refused(
            request, held.direction,
            f"its neighbours reach it directly on the bridge of network {network.name}",
            f'let them in, or write egress = ["any"] in [network.{network.name}], or make that'
            " network routed or isolate it",
        )  # fmt: skip


def _check_names(
    limits: SandboxLimits,
    networks: Collection[Network],
    configured: Mapping[str, Network],
    request: Request,
) -> None:
    """Raise InvalidRequest if a list has names, but our name service is not the one asked."""
    if not is_named(limits, networks, configured):
        return
    if request.dns:
        raise InvalidRequest(
            keys.DNS, ",".join(map(str, request.dns)),
            "the egress that counts for it has names, and whoever answers would choose addresses",
            "remove the annotation, or have no names in the list",
        )  # fmt: skip
    if not any(network.named for network in networks):
        names = ", ".join(network.name for network in networks)
        raise _refused(
            request, "egress", f"it has names, and the name service does not serve network {names}",
            "write addresses, or set names = true for the network",
        )  # fmt: skip


def is_named(
    limits: SandboxLimits, networks: Iterable[Network], configured: Mapping[str, Network]
) -> bool:
    """Whether any list of egress that counts in `networks` has a name."""
    forced = configured.get(limits.policy)
    held = (access("egress", limits, network, forced) for network in networks)
    return any(one is not None and one.named for one in held)


def _refused(
    request: Request, direction: Direction | None, reason: str, remedy: str
) -> InvalidRequest:
    """The error about a list: of its annotation, or of the network that it is about."""
    entries = None if direction is None else getattr(request, direction)
    if direction is not None and entries is not None:
        return InvalidRequest(_KEYS[direction], ",".join(entries) or "none", reason, remedy)
    asked = ("default",) if request.networks is None else request.networks
    return InvalidRequest(keys.NETWORK, ",".join(asked), reason, remedy)


def check_join(
    request: Request, inside: Sandbox, root: Root, configured: Mapping[str, Network]
) -> None:
    """Raise InvalidRequest for a member whose limits are not those of the sandbox `inside`."""
    there = inside.limits
    has = dict(asked_by(there))
    for key, value in asked_by(request):
        if has.get(key) != value:
            what = f"has {has[key]}" if key in has else "has no such limit"
            raise InvalidRequest(
                key, value, f"it is in the sandbox of {inside.id}, which {what}",
                "write the same there, or give this one a network namespace of its own",
            )  # fmt: skip
    _check_root(inside, root)
    networks = [configured[name] for name in inside.networks if name in configured]
    if request.dns and is_named(there, networks, configured):
        _check_names(there, networks, configured, request)


def _check_root(inside: Sandbox, root: Root) -> None:
    """Raise InvalidRequest if `root` allows its containers less than that sandbox may."""
    most, there = root.limits, inside.limits
    remedy = f"start the container of {inside.id} anew, or give this one a namespace of its own"
    if most.policy and most.policy != there.policy:
        raise InvalidRequest(
            keys.SHARE, inside.id,
            f"root {root.path} forces the policy of network {most.policy} upon its containers,"
            " which that sandbox is not held to", remedy,
        )  # fmt: skip
    for name, key, text in _NUMBERS:
        ceiling = getattr(most, name)
        allowed = least(getattr(there, name), None, getattr(there, f"most_{name}"))
        if ceiling is not None and (allowed is None or allowed > ceiling):
            what = key.removeprefix(keys.PREFIX)
            raise InvalidRequest(
                keys.SHARE, inside.id,
                f"root {root.path} allows {what} of {text(ceiling)}, and that sandbox may have"
                " more", remedy,
            )  # fmt: skip


def check_connect(sandbox: Sandbox, network: Network, configured: Mapping[str, Network]) -> None:
    """Raise InvalidRequest if a running `sandbox` could not be held to its limits in `network`."""
    limits = sandbox.limits
    check_networks(limits, [network], configured, Request(networks=(network.name,)))
    dns = tuple(server for member in sandbox.members for server in member.asked.dns or ())
    if dns and is_named(limits, [network], configured):
        _check_names(limits, [network], configured, Request(dns=dns))
