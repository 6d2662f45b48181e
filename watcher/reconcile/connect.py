"""Gives a running sandbox one more interface, or takes one away.

The interface is a member's, and goes with it. The caller has the host-wide lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.kernel.namespace import NamespaceGone
from watcher.containers import proc
from watcher.facts.kinds import Connected, Disconnected
from watcher.model.container import Container, Namespace
from watcher.model.errors import WatcherError, quoted
from watcher.model.sandbox import Interface, without_interface
from watcher.reconcile import families, overlaps, policies
from watcher.reconcile.plan import network_of
from watcher.reconcile.steps import ended_meanwhile

if TYPE_CHECKING:
    from watcher.model.request import Request
    from watcher.model.sandbox import Member, Sandbox
    from watcher.reconcile.context import Context
    from watcher.reconcile.steps import Steps


def connect(
    context: Context,
    steps: Steps,
    sandbox: Sandbox,
    member: Member,
    network: str,
    request: Request,
    name: str,
) -> Interface:
    """Connect `sandbox` to the network of the name `network` for its `member`.

    Args:
        context: what reconcile works with.
        steps: takes back what is in the way.
        sandbox: the sandbox.
        member: the container that the interface goes with.
        network: the network's name.
        request: the addresses and the MAC that it is to have, if any.
        name: what the interface is to be called inside; empty if that does not matter.

    Raises:
        Unclaimed: an address is in no block of this host; once it is granted, try again.
        InvalidRequest: that cannot be.
        WatcherError, OSError: a step failed; the host is as it was.
    """
    container = Container(
        member.root, member.id, member.init, "", {}, Namespace.OWN, "", sandbox.netns
    )
    # The rules for a network that was configured since the last sync are missing.
    context.host.firewall.sync(context.store.sandboxes(), dry_run=False)
    configured = [network_of(context.config, network)]
    policies.check_connect(sandbox, configured[0], context.config.networks)
    overlaps.refuse_now(configured)
    try:
        with context.host.namespaces:
            (possible,) = families.possible(context.host, container, configured, request)
        after = steps.enter(
            lambda: context.store.connect(container, sandbox.key, possible, request, name),
            beside=sandbox.netns,
        )
    except NamespaceGone as error:
        raise ended_meanwhile(member) from error
    interface = next(one for one in after.interfaces if one.network == network)
    try:
        context.flows.end_before(after)
        context.host.links.remember(sandbox)
        steps.change(sandbox, after)
    except BaseException as error:
        left = context.store.disconnect(sandbox.key, interface.ordinal, kept=sandbox.kept)
        steps.rearrange(left)
        if isinstance(error, NamespaceGone) or not proc.runs(member.init):
            raise ended_meanwhile(member) from error
        raise
    steps.rearrange(after)
    context.facts.publish(Connected(after, interface))
    return interface


def disconnect(
    context: Context, steps: Steps, sandbox: Sandbox, member: Member, network: str
) -> None:
    """Take from `sandbox` its interface in the network of the name `network`.

    It is the sandbox's own, or that of its `member`.

    Raises:
        WatcherError: it has none there, or that is another member's.
        OSError: a step failed; sync finds what is left.
    """
    interface = next((one for one in sandbox.interfaces if one.network == network), None)
    if interface is None:
        connected = ", ".join(sandbox.networks)
        raise WatcherError(
            f"container {quoted(member.id)} is not connected to network {quoted(network)}",
            f"name one of {connected}" if connected else "it is connected to none",
        )
    if interface.member not in (None, (member.root, member.id)):
        _, holder = interface.member
        raise WatcherError(
            f"network {quoted(network)} was connected for container {quoted(holder)}, not for"
            f" {quoted(member.id)}",
            f"run `watcher disconnect {holder} {network}`",
        )
    after = without_interface(sandbox, interface)
    context.host.vanish(sandbox, after)
    steps.rearrange(after)
    context.store.disconnect(sandbox.key, interface.ordinal)
    context.facts.publish(Disconnected(after, interface))
