"""The lines of the events socket: one JSON object each, by its `type`; docs/events.md tells them.

They are public. A new field with a default, or a new type, needs no new :data:`VERSION`, because a
reader skips what it does not know; a changed meaning does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

VERSION: Final = 1


class ContainerPart(Struct, frozen=True, omit_defaults=True):
    """A container, in another line.

    Attributes:
        root, id: its root and its id.
        pid: its first process; 0 if unknown.
        names: what it is called beside its id.
        ports: its port maps, as `watcher ls` shows them.
        hostname: that of its `config.json`, if DNS could have it.
        dns: who is asked for what only its sandbox wants to know.
    """

    root: str
    id: str
    pid: int = 0
    names: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    hostname: str = ""
    dns: tuple[str, ...] = ()


class InterfacePart(Struct, frozen=True, omit_defaults=True):
    """An interface of a sandbox.

    Attributes:
        name: its name inside.
        host_name: the name of its host end.
        network: the network's name.
        mac: its MAC.
        addresses: its leases, without prefix length.
    """

    name: str
    host_name: str
    network: str
    mac: str
    addresses: tuple[str, ...] = ()


class SubnetPart(Struct, frozen=True, omit_defaults=True):
    """A subnet of a network.

    Attributes:
        subnet: the subnet.
        gateway: the host's address in it.
        leases: the number of addresses that can be leased at once; of a clustered network, by this
            host from what it holds.
        blocks: of a clustered network, the blocks that this host holds.
    """

    subnet: str
    gateway: str
    leases: int
    blocks: int = 0


class Histogram(Struct, frozen=True):
    """Durations in seconds: `counts` has one more element than `bounds`, for what is longer.

    Attributes:
        bounds: the upper bounds of the buckets, ascending.
        counts: how many durations fell into each bucket alone.
        sum: the sum of all durations.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Line(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """A line of the socket."""


class State(Line, frozen=True, tag="state"):
    """The state begins: forget what you know. It ends with :class:`Ready`.

    Attributes:
        version: :data:`VERSION`.
        program: the version of the program.
        service: differs for each start of the service; sequence numbers of one go on in the next.
        time: when it was taken.
    """

    version: int
    program: str
    service: str
    time: datetime


class SandboxLine(Line, frozen=True, tag="sandbox"):
    """A sandbox that has its network.

    Attributes:
        key: what replaces or removes it later, unique among all lines with a key.
        id: the id of the container that it was made for.
        netns: inode number of its namespace.
        containers: the live containers in it.
        interfaces: its interfaces, `eth0` first.
        pid: the first process of the container that it was made for, which may have ended.
        egress: where it may open connections to, beside what each of its networks says; absent if
            it did not ask for such a list.
        policy: the network whose lists its root forces upon it.
    """

    key: str
    id: str
    netns: int
    containers: tuple[ContainerPart, ...]
    interfaces: tuple[InterfacePart, ...]
    pid: int = 0
    egress: tuple[str, ...] | None = None
    policy: str = ""


class FailureLine(Line, frozen=True, tag="failure"):
    """A container that has no network, and is tried again.

    Attributes:
        key: as in :class:`SandboxLine`.
        root, id, cause, reason, annotation, value: as in :class:`Event`.
        time: since when.
    """

    key: str
    root: str
    id: str
    cause: str
    reason: str
    time: datetime
    annotation: str = ""
    value: str = ""


class NetworkLine(Line, frozen=True, tag="network"):
    """A configured network, or a former one that is in use.

    Attributes:
        refuses: why it takes no containers at present, if it does not.
        names: whether the name service serves it.
        internal, guard: as in its configuration.
        egress: where its sandboxes may open connections to; absent if it does not limit that.
        cluster: whether it is the same on all hosts of the cluster.
    """

    name: str
    mode: str
    bridge: str
    subnets: tuple[SubnetPart, ...]
    refuses: str = ""
    names: bool = False
    internal: bool = False
    guard: bool = True
    egress: tuple[str, ...] | None = None
    cluster: bool = False


class ClusterLine(Line, frozen=True, tag="cluster"):
    """How this host stands with the cluster; there is such a line if it has one.

    Attributes:
        host, address: this host's name, and what the others reach it by.
        since: since when `connected` is as it is.
        connected: whether the service hears of the cluster: `watcher cluster` runs, and etcd
            answers it.
        reason: why it does not, or why this host takes no part in the cluster.
        alive, silent: how many other hosts there are that are heard of, and that are not.
        changed: when the service has last heard of a change; absent: not since it started.
    """

    host: str
    address: str
    since: datetime
    connected: bool = False
    reason: str = ""
    alive: int = 0
    silent: int = 0
    changed: datetime | None = None


class RootLine(Line, frozen=True, tag="root"):
    """A watched root; `held`: its containers start behind the gate; else `reason` tells why not."""

    path: str
    held: bool
    reason: str = ""


class Totals(Line, frozen=True, tag="totals"):
    """Counts since the start of the service.

    Attributes:
        since: when that was.
        events: how many there were of each kind.
        failures: how many containers failed or were refused, by cause.
        attach, detach, hold: how long these took.
        history_lost: how many events could not be written to the history.
    """

    since: datetime
    events: dict[str, int]
    failures: dict[str, int]
    attach: Histogram
    detach: Histogram
    hold: Histogram
    history_lost: int = 0


class Counted(Line, frozen=True, tag="counted"):
    """When the counters of the lines of :class:`Traffic` were read: at most a second ago."""

    time: datetime


class Traffic(Line, frozen=True, tag="traffic"):
    """The kernel's counters of one interface, as its sandbox sees them.

    What a sandbox receives, the kernel counts as sent by its host end. The counters begin with the
    interface, and end with it.

    Attributes:
        host_name: the host end; the line of its sandbox has the rest.
        guard_dropped: packets from the sandbox that the guard dropped, from addresses that are not
            its own.
    """

    host_name: str
    received_bytes: int
    received_packets: int
    received_dropped: int
    received_errors: int
    sent_bytes: int
    sent_packets: int
    sent_dropped: int
    sent_errors: int
    guard_dropped: int = 0


class Rejections(Line, frozen=True, tag="rejections"):
    """How many packets of a sandbox were rejected, each of which would have begun a connection.

    There is a line once something was rejected. The counts end with the sandbox, and begin anew
    when somebody has removed the table of nftables.

    Attributes:
        address: an address of the sandbox.
        egress: packets from it to what its lists do not have.
        ingress: packets to its published ports from whom its lists do not have.
        connections: packets that would have been more connections than it may have.
    """

    address: str
    egress: int = 0
    ingress: int = 0
    connections: int = 0


class Readers(Line, frozen=True, tag="readers"):
    """The readers of the socket: how many there are, have been, and how many events they missed."""

    now: int
    total: int
    missed: int


class Ready(Line, frozen=True, tag="ready"):
    """The state is complete, as it was after the event `seq`. Events with higher numbers follow."""

    seq: int


class Missed(Line, frozen=True, tag="missed"):
    """You did not read for too long, and missed `count` events. The state follows once more."""

    count: int


class Event(Line, frozen=True, tag="event"):
    """Something that has happened.

    Attributes:
        seq: its number; each is one higher than the one before it, across restarts.
        time: when it happened.
        kind: what happened; docs/events.md has the list.
        containers: the containers that it is about.
        sandbox: the id of the sandbox that it is about.
        interfaces: the interfaces that came or went.
        ports: the port maps that came or went; a port that is taken.
        network: the network that it is about.
        what: what was repaired.
        reason: why.
        remedy: what to do about it.
        cause: one of few words for a failure: the annotation at fault, `unknown-annotation`,
            `unreadable`, the name of a kernel error such as `ENOSPC`, or `other`.
        annotation, value: the annotation at fault.
        verdict: what the gate did: `allow` or `deny`.
        seconds: how long it took.
        host, address: the host of the cluster that it is about, and what the others reach it by.
        block: the part of the network that this host took or gave up: a block, or one address.
        set: lines of the state that are new, or replace those with their keys.
        unset: the keys of lines that are no longer part of the state.
    """

    seq: int
    time: datetime
    kind: str
    containers: tuple[ContainerPart, ...] = ()
    sandbox: str = ""
    interfaces: tuple[InterfacePart, ...] = ()
    ports: tuple[str, ...] = ()
    network: str = ""
    what: str = ""
    reason: str = ""
    remedy: str = ""
    cause: str = ""
    annotation: str = ""
    value: str = ""
    verdict: str = ""
    seconds: float = 0.0
    set: tuple[SandboxLine | FailureLine, ...] = ()
    unset: tuple[str, ...] = ()
    host: str = ""
    address: str = ""
    block: str = ""


class Now(Line, frozen=True, tag="now"):
    """The lines before it tell what changes without an event, as it is now.

    It goes to the broker alone, when that has asked.
    """


type AnyLine = (
    State
    | SandboxLine
    | FailureLine
    | NetworkLine
    | ClusterLine
    | RootLine
    | Totals
    | Counted
    | Traffic
    | Rejections
    | Readers
    | Ready
    | Missed
    | Event
)

_encoder: Final = msgspec.json.Encoder()


def encoded(line: Line) -> bytes:
    """A line as it is sent, with its end.

    A name of a file may have bytes, and an annotation characters, that UTF-8 cannot tell: these
    are escaped.
    """
    try:
        return _encoder.encode(line) + b"\n"
    except UnicodeEncodeError:
        return _encoder.encode(_told(msgspec.to_builtins(line))) + b"\n"


def encoded_within(event: Event, most: int) -> bytes:
    """An event as it is sent; one of more bytes than `most` without its port maps.

    Those alone may be very many: a bundle may ask for 64 KiB of them.
    """
    line = encoded(event)
    if len(line) <= most:
        return line
    containers = tuple(replace(container, ports=()) for container in event.containers)
    return encoded(replace(event, containers=containers, ports=()))


def _told(value: Any) -> Any:
    """`value` with every text in a form that UTF-8 can tell."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    if isinstance(value, dict):
        return {_told(key): _told(item) for key, item in value.items()}
    return value
