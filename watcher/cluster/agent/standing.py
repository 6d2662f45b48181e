"""Whether this host is in the cluster, by what etcd has of it; if not, why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from watcher.cluster.registry.changes import Join, Self
from watcher.cluster.registry.keys import VERSION
from watcher.cluster.registry.records import AliveRecord, HostRecord
from watcher.config.clusters import HOST
from watcher.model.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.cluster.protocol import HostRow
    from watcher.cluster.registry.picture import Entry, Picture

type Kind = Literal["in", "joining", "undecided", "out", "removed"]

UNDECIDED: Final = 1.5
"""An earlier start of this host is taken for another one that lives, if it is heard of for longer
than this many times `ttl`."""


class Standing(Struct, frozen=True):
    """How this host stands.

    Attributes:
        kind: `in`: it takes part; `joining`: it does once `join` is made; `undecided`: an earlier
            start of this host, or another one, is still heard of; `out`: it cannot; `removed`: the
            registry has given back what this incarnation had.
        problem: why it takes no part, with the remedy.
        me: itself, if what etcd has for this incarnation counts.
        join: what is to be put for it: to join, or because its own data has changed.
        other: whether it cannot because another machine is heard of by its name.
    """

    kind: Kind
    problem: str = ""
    me: Self | None = None
    join: Join | None = None
    other: bool = False


class Situation(Struct, frozen=True):
    """What is known beside the picture.

    Attributes:
        host: what the service tells of this host.
        program: the version of this program.
        port: the UDP port of VXLAN.
        restored: etcd was restored, since this host was in the cluster last.
        marked: the mark that etcd was restored was seen since.
        stay_out: this process was in the cluster when the host was removed.
        undecided: seconds since this host is undecided.
        ttl: seconds until a silent host is taken for gone.
        numbers: of networks, as they were seen last.
    """

    host: HostRow
    program: str
    ttl: int
    port: int
    restored: bool = False
    marked: bool = False
    stay_out: bool = False
    undecided: float = 0.0
    numbers: Mapping[str, int] = {}


def standing(picture: Picture, now: Situation) -> Standing:
    """How this host stands."""
    if now.stay_out:
        return Standing(
            "removed", f"host {quoted(now.host.host)} was removed from the cluster; start"
            " `watcher cluster` again to have it take part anew, e.g. `systemctl restart"
            " watcher-cluster`",
        )  # fmt: skip
    if not HOST.fullmatch(now.host.host):
        return Standing(
            "out", f"this host's name {quoted(now.host.host)} cannot stand in etcd; write another"
            " one by `host` below [cluster]: up to 63 of a-z, 0-9, - and .",
        )  # fmt: skip
    entry = picture.hosts.get(now.host.host)
    layout = picture.layout
    if layout is not None and layout.record != str(VERSION):
        return Standing(
            "out", f"layout {quoted(layout.record)} of the cluster in etcd is of another version"
            " of this program; upgrade it on this host", _me(entry, now),
        )  # fmt: skip
    if entry is None:
        return _absent(picture, now)
    if entry.record is None and now.host.cluster_id:
        return Standing("joining", join=_join(picture, now, entry))  # it was in: put it right
    if entry.record is None:
        return Standing(
            "out", f"etcd has of this host what is not understood; delete"
            f" {quoted(picture.keys.host(now.host.host))} with `etcdctl del`",
        )  # fmt: skip
    return _there(picture, now, entry, entry.record)


def _absent(picture: Picture, now: Situation) -> Standing:
    """How this host stands if etcd has nothing of it."""
    if now.host.cluster_id and not now.restored:
        return Standing("removed", _removed(now.host.host))
    return _taken(picture, now) or Standing("joining", join=_join(picture, now, None))


def _there(
    picture: Picture, now: Situation, entry: Entry[HostRecord], record: HostRecord
) -> Standing:
    """How it stands if etcd has a host of its name."""
    host = now.host
    same = record.incarnation == host.incarnation
    if not same and host.cluster_id and not now.restored:
        return Standing("removed", _removed(host.host))
    alive = picture.alive.get(host.host)
    if alive is not None and alive.record is not None and alive.record.boot != host.boot:
        return _heard_of(alive.record, now)
    if not same and record.machine != host.machine:
        return Standing(
            "out", f"another machine was host {quoted(host.host)} of the cluster, at"
            f" {record.address}; give this one another `host`, or run `watcher hosts rm"
            f" {host.host}` if that one is gone for good",
        )  # fmt: skip
    me = _me(entry, now)
    if taken := _taken(picture, now):
        return replace(taken, me=me)
    if not same:
        return Standing("joining", join=_join(picture, now, entry))
    differs = record != _record(now) or entry.damaged
    differs = differs or _address_modified(picture, now, other=False) == 0
    return Standing("in", me=me, join=_join(picture, now, entry) if differs else None)


def _me(entry: Entry[HostRecord] | None, now: Situation) -> Self | None:
    """This host, if its key in etcd is of this incarnation."""
    if entry is None or entry.record is None or entry.record.incarnation != now.host.incarnation:
        return None
    return Self(now.host.host, now.host.incarnation, entry.modified)


def _heard_of(alive: AliveRecord, now: Situation) -> Standing:
    """How it stands while another start of a host of its name is heard of."""
    problem = (
        f"another machine is host {quoted(now.host.host)} of the cluster, at {alive.address}; give"
        " one of them another `host` below [cluster]"
    )
    # An etcd that was restored may have an earlier start of it with another address.
    may_be_earlier = now.restored or alive.address == str(now.host.address)
    if may_be_earlier and now.undecided < now.ttl * UNDECIDED:
        return Standing("undecided", "an earlier start of this host is still heard of")
    return Standing("out", problem, other=True)


def _taken(picture: Picture, now: Situation) -> Standing | None:
    """How it stands if another host has its address; `None` if none has."""
    entry = picture.addresses.get(str(now.host.address))
    if entry is None or entry.record in (None, now.host.host):
        return None
    if entry.record not in picture.hosts:  # what is left of one that was removed
        return None
    return Standing(
        "out", f"{now.host.address} is the address of host {quoted(entry.record)}; write another"
        f" `address` below [cluster], or run `watcher hosts rm {entry.record}` if that one is gone"
        " for good",
    )  # fmt: skip


def _join(picture: Picture, now: Situation, entry: Entry[HostRecord] | None) -> Join:
    name, record = now.host.host, _record(now)
    before = entry.record.address if entry is not None and entry.record is not None else ""
    known = picture.addresses.get(before)
    gone = before != record.address and known is not None and known.record == name
    alive = picture.alive.get(name)
    return Join(
        name,
        record,
        modified=0 if entry is None else entry.modified,
        address_modified=_address_modified(picture, now, other=True),
        alive_modified=0 if alive is None else alive.modified,
        layout_modified=0 if picture.layout is None else picture.layout.modified,
        live=live(now),
        before=before if gone else "",
    )


def _address_modified(picture: Picture, now: Situation, *, other: bool) -> int:
    """The revision of the key of this host's address; 0: there is none, or another's is meant."""
    entry = picture.addresses.get(str(now.host.address))
    if entry is None or (not other and (entry.damaged or entry.record != now.host.host)):
        return 0
    return entry.modified


def live(now: Situation) -> AliveRecord:
    """What is told of this host while it lives."""
    return AliveRecord(now.host.incarnation, str(now.host.address), now.host.boot)


def _record(now: Situation) -> HostRecord:
    host = now.host
    return HostRecord(host.incarnation, str(host.address), host.machine, now.program, now.port)


def _removed(name: str) -> str:
    return f"host {quoted(name)} was removed from the cluster, or another has its name"
