"""The lines of `hosts.sock`: one JSON object each, by its `type`.

The socket is for programs of this version on this host, and no public interface. A reader says
first what it :class:`Wants`. It gets all lines between :class:`State` and :class:`Ready`, and then
each line that takes the place of another, or :class:`Gone`. `State` comes again to a reader that
was too slow: what it does not hear of until `Ready` is there no more.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Struct

SOCKET: Final = "cluster/hosts.sock"
"""The socket, in `run_dir`, of kind SOCK_STREAM. The directory is that of `watcher cluster`."""

VERSION: Final = 1


class Wants(Struct, frozen=True):
    """What a reader wants: the hosts, and if it says so the endpoints of the other hosts."""

    endpoints: bool = False


class Line(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """A line of the socket."""


class State(Line, frozen=True, tag="state"):
    """All lines follow, up to :class:`Ready`."""

    version: int


class Ready(Line, frozen=True, tag="ready"):
    """All lines were told: what is not among them is there no more.

    Attributes:
        known: whether etcd has answered since `watcher cluster` started. If not, what a reader has
            heard from the one before is the latest that there is; a state follows once it has.
    """

    known: bool = True


class HostLine(Line, frozen=True, tag="host"):
    """A host of the cluster.

    Attributes:
        name: its name.
        address: what the others reach it by.
        state: `this`: it is this host; `alive`: it has been heard of lately; `silent`: it has not.
        blocks: its blocks and claims as prefixes, by the network.
        program: the version of the program there, if it is known.
    """

    name: str
    address: str
    state: Literal["this", "alive", "silent"]
    blocks: dict[str, tuple[str, ...]] = {}
    program: str = ""


class StatusLine(Line, frozen=True, tag="status"):
    """How this host stands with etcd; there is one such line.

    Attributes:
        connected: whether etcd answers. If it does not, all other lines are as they were.
        problem: why it does not, or why this host takes no part in the cluster.
    """

    connected: bool
    problem: str = ""


class EndpointLine(Line, frozen=True, tag="endpoint"):
    """A sandbox of another host (:class:`watcher.cluster.endpoints.record.Endpoint`).

    Attributes:
        host, id: the host's name; tells it from the host's other endpoints.
        names, addresses: what that host claims of it.
    """

    host: str
    id: str
    names: tuple[tuple[str, ...], ...]
    addresses: dict[str, tuple[str, ...]]


class Gone(Line, frozen=True, tag="gone"):
    """The endpoint `id` of a host is there no more; without `id`, the host itself.

    The endpoints of a host that is gone do not go with it: each is told of.
    """

    host: str
    id: str = ""


type AnyLine = State | Ready | HostLine | StatusLine | EndpointLine | Gone

_encoder: Final = msgspec.json.Encoder()

decoder: Final[msgspec.json.Decoder[AnyLine]] = msgspec.json.Decoder(AnyLine)
"""Reads a line."""


def encoded(line: Line | Wants) -> bytes:
    """A line as it is sent, with its end."""
    return _encoder.encode(line) + b"\n"
