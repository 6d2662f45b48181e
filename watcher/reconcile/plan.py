"""Decides what a container gets: nothing, a sandbox of its own, or a place in another's.

Pure: it takes the container, its place, its request and the configuration, and returns a plan or
raises InvalidRequest.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from watcher.config import patterns
from watcher.config.settings import Config, Root
from watcher.containers.place import Place
from watcher.containers.sysctls import of_bundle
from watcher.model import keys
from watcher.model.container import Container, Namespace
from watcher.model.errors import BadValue, InvalidRequest, quoted
from watcher.model.naming import sysctl_name
from watcher.model.network import Network
from watcher.model.policy.limits import UNLIMITED, SandboxLimits
from watcher.model.request import Request, Sysctl
from watcher.model.sandbox import Sandbox
from watcher.reconcile import limits, policies, ports
from watcher.reconcile.founders import Founder
from watcher.reconcile.movable import NOT_HELD


class Ignore(Struct, frozen=True):
    """Leave the container alone.

    Attributes:
        reason: why.
        unmet: whether it asks for a network, which it does not get.
    """

    reason: str
    unmet: bool = False


class Create(Struct, frozen=True):
    """Make a sandbox with an interface in each of `networks`, which is limited to `limits`."""

    networks: tuple[Network, ...]
    limits: SandboxLimits = UNLIMITED


class CreateFor(Struct, frozen=True):
    """Make a sandbox for `founder`, and make the container, which is in its namespace, a member."""

    founder: Container
    networks: tuple[Network, ...]
    limits: SandboxLimits = UNLIMITED


class Join(Struct, frozen=True):
    """The container is in the namespace of `sandbox` already: make it a member."""

    sandbox: Sandbox


class Move(Struct, frozen=True):
    """Move the container into the namespace of `sandbox`; after that, it is to :class:`Join` it.

    Attributes:
        sandbox: the sandbox that it shares.
        settings: what its runtime has set in the namespace that is given up, by the paths below
            `/proc/sys/net`.
    """

    sandbox: Sandbox
    settings: tuple[Sysctl, ...]


type Plan = Ignore | Create | CreateFor | Join | Move


def plan(
    container: Container,
    place: Place,
    request: Request,
    config: Config,
    *,
    shared: Sandbox | None,
    founder: Founder | None = None,
    unmovable: str = NOT_HELD,
    attached: bool = False,
) -> Plan:
    """What a live `container` should get.

    The kernel says which namespace the container is in. Its configuration counts only where the
    kernel cannot tell, because a bundle can be written so that two readers read it differently.

    `shared` is the sandbox that its annotation `share` names. `founder` is the container whose
    namespace it has joined, if that has no sandbox. `unmovable` is why it cannot be moved into
    `shared`; empty if it can. `attached`: it has its network already, and the limits of its root
    apply only to new ones.

    Raises:
        InvalidRequest: its namespace or the configuration rules out the request.
    """
    root = root_of(config, container)
    inside = place.inside
    founded = inside is not None and inside.is_of(container)
    if request.share is not None:
        shared = _shared(container, request.share, shared)
        if inside is None or founded or inside.key != shared.key:
            settings = _check_move(container, place, request.share, unmovable)
            _check_join(request, shared, root, config)
            return Move(shared, settings)
    if place.of_host:
        policies.refuse_without_sandbox(request, "it is in the host's network namespace")
        return Ignore("it is in the host's network namespace")
    if inside is not None and not founded:
        if not attached or inside.member(container) is None:  # else it stays in another's
            _check_join(request, inside, root, config)
        return Join(inside)
    left_alone = _left_alone(container, place, request, root, founder, attached=attached)
    if left_alone is not None:
        policies.refuse_without_sandbox(request, left_alone.reason)
        return left_alone
    if attached and inside is not None:  # whatever the configuration has become
        return Join(inside)
    limited = limits.of_sandbox(request, root)
    networks = _checked_networks(request, limited, config, root, attached=attached)
    if inside is not None:
        return Join(inside)
    if founder is not None:
        if not attached:
            limits.check_share(founder.container.id, root, {founder.container.root})
        return CreateFor(founder.container, networks, limited)
    if not place.of_runtime:
        reason = "its network namespace is not one that its runtime made"
        policies.refuse_without_sandbox(request, reason)
        return Ignore(reason)
    return Create(networks, limited)


def _left_alone(
    container: Container,
    place: Place,
    request: Request,
    root: Root,
    founder: Founder | None,
    *,
    attached: bool,
) -> Ignore | None:
    """Why no sandbox is made for a container that joins none; else `None`.

    Raises:
        InvalidRequest: it asks for a network, but has one.
    """
    if container.namespace is Namespace.HOST:
        return Ignore("it is in the network namespace that its runtime was started in")
    if container.namespace is Namespace.JOINED and founder is None:
        return _ignore_joined(container, request)
    if request.networks == ():
        return Ignore("io.watcher.network = none")
    if founder is not None:
        return _ignore_member(container, request, founder, attached=attached)
    if root.attach == "annotated" and not request.annotated:
        return Ignore("its root attaches annotated containers alone")
    if place.other_link and not attached:
        return _ignore_connected(request, place.other_link)
    return None


def _ignore_joined(container: Container, request: Request) -> Ignore:
    """Ignore a container in a foreign namespace; one with a request is told what to do."""
    what = f"its namespace {container.joined} is none of ours"
    if asks_by(request) is None:
        return Ignore(what)
    return Ignore(f"{what}; {_WITHOUT_NETWORK}", unmet=True)


def _ignore_member(
    container: Container, request: Request, founder: Founder, *, attached: bool
) -> Ignore | None:
    """Why a container does not get the `founder` of its namespace a sandbox; else `None`."""
    what = f"its namespace {container.joined} is that of {founder.container.id}"
    if not request.annotated:
        return Ignore(f"{what}, which has no network of ours")
    if founder.other_link and not attached:
        link = quoted(founder.other_link)
        return Ignore(
            f"{what}, to which another program has given the interface {link}; start that one"
            " without a network, as by `--network none` of Docker and Podman",
            unmet=asks_by(request) is not None,
        )
    return None


def _ignore_connected(request: Request, link: str) -> Ignore:
    """Ignore a container to which another program has given the network interface `link`.

    Raises:
        InvalidRequest: it asks for a network.
    """
    what = f"another program has given it the interface {quoted(link)}"
    asked = asks_by(request)
    if asked is not None:
        raise InvalidRequest(*asked, what, _WITHOUT_NETWORK)
    return Ignore(f"its network is not ours: {what}")


_WITHOUT_NETWORK: Final = (
    "start it without a network, as by `--network none` of Docker and Podman, or remove the"
    " annotations of io.watcher"
)


def asks_by(request: Request) -> tuple[str, str] | None:
    """The annotation by which a container asks for a network, and its value."""
    for key, value in (
        (keys.NETWORK, request.networks), (keys.PORTS, request.ports), (keys.IP, request.addresses),
        (keys.MAC, (request.mac,) if request.mac else ()),
        (keys.SYSCTL, [f"{sysctl_name(path)} = {value}" for path, value in request.sysctl]),
    ):  # fmt: skip
        if value:
            return key, ",".join(map(str, value))
    return next(policies.asked_by(request), None)


def root_of(config: Config, container: Container) -> Root:
    """The root that `container` is in, as its `[[root]]` describes it."""
    root = patterns.root_of(config.roots, container.root)
    assert root is not None, container.root
    return root


def network_of(config: Config, name: str) -> Network:
    """The network of that name in the configuration; InvalidRequest if there is none."""
    network = config.networks.get(name)
    if network is None:
        known = ", ".join(sorted(config.networks))
        raise InvalidRequest(
            keys.NETWORK, name, "there is no such network",
            f"name one of {known}, or add [network.{name}] to the configuration",
        )  # fmt: skip
    return network


def _checked_networks(
    request: Request, limited: SandboxLimits, config: Config, root: Root, *, attached: bool
) -> tuple[Network, ...]:
    """The networks of a new sandbox; InvalidRequest if it cannot be in them, or may not."""
    names = ("default",) if request.networks is None else request.networks
    networks = tuple([network_of(config, name) for name in names])
    if not attached:
        limits.check_new(request, networks, root)
        policies.check_new(request, limited, networks, root, config.networks)
    ports.check_carried(request, networks)
    return networks


def _check_join(request: Request, inside: Sandbox, root: Root, config: Config) -> None:
    """Raise InvalidRequest for a request that a member of `inside` cannot have, or may not."""
    limits.check_join(request, inside, root)
    policies.check_join(request, inside, root, config.networks)


def _shared(container: Container, share: str, shared: Sandbox | None) -> Sandbox:
    """The sandbox that `share` leads to; InvalidRequest if there is none."""
    if share == container.id:
        raise InvalidRequest(
            keys.SHARE,
            share,
            "the container itself",
            "name another container, or remove the annotation",
        )
    if shared is None:
        raise InvalidRequest(
            keys.SHARE, share, "there is no such container with a sandbox", "start that one first"
        )
    return shared


def _check_move(
    container: Container, place: Place, share: str, unmovable: str
) -> tuple[Sysctl, ...]:
    """Raise InvalidRequest for a container that is not where `share` leads to and cannot be moved.

    Returns what its runtime has set in the namespace that it has.
    """
    mend = remedy(container, share)
    if container.namespace is Namespace.HOST:
        reason = "its config.json gives it the host's network namespace"
    elif container.namespace is Namespace.JOINED:
        reason = f"its namespace {container.joined} is not that of {share}"
    elif unmovable:
        reason = f"its config.json gives it a network namespace of its own, and {unmovable}"
        if unmovable == NOT_HELD:
            mend = f"start it again while the service runs, or {mend}"
    elif not place.of_runtime:
        reason = "its network namespace is not one that its runtime made for it"
    elif place.other_link:
        reason = f"another program has given it the interface {quoted(place.other_link)}"
        mend = _WITHOUT_NETWORK
    else:
        try:
            return of_bundle(container.settings)
        except BadValue as error:
            raise InvalidRequest("linux.sysctl", "net.*", error.reason, error.remedy) from None
    raise InvalidRequest(keys.SHARE, share, reason, mend)


def remedy(container: Container, share: str) -> str:
    """What to do about a container that cannot be moved into the sandbox that it shares."""
    return f"run `watcher bundle {container.bundle or 'DIR'} --share {share}` and start it again"
