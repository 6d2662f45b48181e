"""What a name stands for, to who asks."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.model.names import HOST
from watcher.names.zone.reverse import reverse
from watcher.names.zone.segments import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.names.zone.directory import Directory
    from watcher.names.zone.reverse import Reverse
    from watcher.names.zone.segments import Named, Segment
    from watcher.names.zone.views import Asker, Use, View

_HOST: Final = HOST.encode()
_LOCALHOST: Final = b"localhost"
_LOOPBACK4: Final = socket.inet_pton(socket.AF_INET, "127.0.0.1")
_LOOPBACK6: Final = socket.inet_pton(socket.AF_INET6, "::1")
_LOOPBACKS: Final = ("127.0.0.1", "::1")


class Found(Struct, frozen=True, gc=False):
    """What a name stands for.

    Attributes:
        exists: whether there is such a name at all.
        v4, v6: its addresses, packed.
        called: whose addresses these are in place of them; there may be thousands.
        pointers: names that it leads to, in the domain unless they end with a dot.
        apex: it is the domain itself.
        uses: what this follows from.
        own: it is a hostname of who asks, and so an answer for nobody else.
    """

    exists: bool
    v4: Sequence[bytes] = ()
    v6: Sequence[bytes] = ()
    called: Sequence[Named] = ()
    pointers: Sequence[bytes] = ()
    apex: bool = False
    uses: tuple[Use, ...] = ()
    own: bool = False

    def records(self, version: int, before: bytes) -> bytes:
        """Its addresses of IP `version` 4 or 6, each with the rest of its record `before` it."""
        if addresses := self.v4 if version == 4 else self.v6:
            return joined(before, addresses)
        return b"".join([one.records(version, before) for one in self.called])


_NOTHING: Final = Found(exists=False)
_LOCAL: Final = Found(exists=True, v4=(_LOOPBACK4,), v6=(_LOOPBACK6,))


def resolve(directory: Directory, asker: Asker, name: tuple[bytes, ...]) -> Found | None:
    """What `name` stands for, or that there is no such name; `None` if it is not ours to know.

    Ours are names without a dot, those in the domain, and those of addresses in our subnets; and
    `localhost` (RFC 6761, section 6.3).
    """
    if not name:
        return None
    if name[-1] == _LOCALHOST:
        return _LOCAL
    domain = directory.zone.labels
    count = len(domain)
    in_domain = name[-count:] == domain
    rest = name[:-count] if in_domain else name
    is_ours = in_domain or len(name) == 1
    if in_domain and not rest:
        return Found(exists=True, apex=True)
    if rest == (_LOCALHOST,):
        return _LOCAL
    if is_ours and rest[0] == _HOST and (segments := _gateways_of(asker.view, rest[1:])):
        v4 = [address for segment in segments for address in segment.v4]
        v6 = [address for segment in segments for address in segment.v6]
        return Found(exists=True, v4=v4, v6=v6)
    if asker.hostnames and (found := _own(asker, name, rest)):
        return found
    if is_ours:
        found = _in_view(asker.view, rest)
        if not found.exists and name == domain[-1:]:  # the domain is below it (RFC 8020)
            return Found(exists=True, uses=found.uses)
        return found
    about = reverse(name)
    found = None if about is None else _reverse(directory, asker.view, about)
    if found is None and _is_ours_without_escapes(directory, asker, name):
        return _NOTHING
    return found


def _is_ours_without_escapes(directory: Directory, asker: Asker, name: tuple[bytes, ...]) -> bool:
    r"""Whether `name` would be ours if the dots in its labels were between labels.

    Such as `web.watcher\.internal`: a server that takes that for the same would hear of it.
    """
    text = b".".join(name)
    if text.count(b".") == len(name) - 1:
        return False
    return resolve(directory, asker, tuple(text.strip(b".").split(b"."))) is not None


def _gateways_of(view: View, network: tuple[bytes, ...]) -> Sequence[Segment]:
    """Whose gateways are the host's addresses: `host` alone is that of the asking network."""
    return view.by_name.get(b".".join(network), ()) if network else view.segments[:1]


def _own(asker: Asker, name: tuple[bytes, ...], rest: tuple[bytes, ...]) -> Found | None:
    """What `name` is if it is a hostname of who asks, as it stands or in the domain."""
    for labels in (name, rest):
        text = _text(labels)
        counts = asker.hostnames.get(text)
        if counts is None:
            continue
        if counts:
            return Found(exists=True, v4=asker.v4, v6=asker.v6, own=True)
        if not _in_view(asker.view, labels).exists:
            return Found(exists=True, v4=asker.v4, v6=asker.v6, own=True, uses=(text,))
    return None


def _text(labels: tuple[bytes, ...]) -> bytes:
    """The labels with dots between them; empty if there is a dot in one."""
    text = b".".join(labels)
    return text if text.count(b".") == len(labels) - 1 else b""


def _in_view(view: View, labels: tuple[bytes, ...]) -> Found:
    """Who is called so in the networks of `view`; behind a dot may be the name of a network."""
    text = _text(labels)
    if not text:
        return _NOTHING
    called = _called(view.segments, text)
    uses: list[Use] = [text]
    at = text.find(b".")
    while not called and at >= 0:
        segments = view.by_name.get(text[at + 1 :])
        if segments:
            called = _called(segments, text[:at])
            uses.append(text[:at])
        at = text.find(b".", at + 1)
    if not called:
        return Found(exists=text in view.by_name, uses=tuple(uses))
    return Found(exists=True, called=called, uses=tuple(uses))


def _called(segments: Iterable[Segment], name: bytes) -> list[Named]:
    """Who is called so, on this host and on others alike."""
    found: list[Named] = []
    for segment in segments:
        if name in segment.called:
            found.append(segment.called[name])
        if segment.remote is not None and (others := segment.remote.find(name)):
            found.append(others)
    return found


def _reverse(directory: Directory, view: View, about: Reverse) -> Found | None:
    """Whose address it is; `None` if it is none of ours."""
    address = about.address
    if address in _LOOPBACKS:
        return Found(exists=True, pointers=(b"localhost.",))
    if not about.is_in(directory.spans):
        return None
    for segment in view.segments:
        if address in segment.gateways:
            return Found(exists=True, pointers=(_HOST,))
        if presence := segment.leases.get(address):
            pointers = directory.pointers(presence, segment)
            return Found(exists=bool(pointers), pointers=pointers, uses=(address,))
        if address and segment.remote is not None and (other := segment.remote.at(address)):
            pointers = directory.pointers_of(other.firsts, segment)
            return Found(exists=bool(pointers), pointers=pointers, uses=(address,))
    return Found(exists=False, uses=(address,) if address else ())
