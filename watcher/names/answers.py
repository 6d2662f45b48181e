"""Answers to questions: at once, when it is known who asks, or when somebody else has answered."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from watcher.names.opening.limits import host_name
from watcher.names.waiting import Waiting
from watcher.names.wire.numbers import (
    AAAA,
    ANY,
    AXFR,
    HEADER,
    IN,
    IXFR,
    NOERROR,
    NXDOMAIN,
    OPT,
    REFUSED,
    SERVFAIL,
    TKEY,
    TSIG,
    UDP_WITHOUT_EDNS,
    A,
)
from watcher.names.wire.query import BadQuestion, NoQuestion, parse
from watcher.names.wire.reply import blocked, error, failure
from watcher.names.zone.resolve import resolve

if TYPE_CHECKING:
    from watcher.names.counts import Counts
    from watcher.names.opening.limits import NameLimits
    from watcher.names.opening.openings import Opener
    from watcher.names.upstream.forwarder import Forward, Reply
    from watcher.names.waiting import Later
    from watcher.names.wire.query import Query
    from watcher.names.zone.answer import Answer
    from watcher.names.zone.directory import Directory
    from watcher.names.zone.resolve import Found
    from watcher.names.zone.segments import Segment
    from watcher.names.zone.views import Asker

_META: Final = frozenset((OPT, TKEY, TSIG, IXFR, AXFR))
"""No types of records that one asks for."""

_ADDRESSES: Final = (A, AAAA)

_REVERSE: Final = b".arpa"
"""What names of addresses end in: nobody would write one in a list."""

_OWN_AT_MOST: Final = 32
"""Answers that are kept about the hostname of one sandbox."""


class Answers:
    """Answers questions.

    Args:
        directory: who is called what, and who may know.
        forward: asks others.
        opener: has the addresses in answers opened, for who has names in a list of `egress`.
        later: calls something after some seconds.
        counts: told how each question ended, but for those of which `forward` knows.

    Attributes:
        directory: may be replaced by another one.
    """

    def __init__(
        self,
        directory: Directory,
        forward: Forward,
        opener: Opener,
        later: Later,
        counts: Counts,
    ) -> None:
        self.directory = directory
        self._forward = forward
        self._opener = opener
        self._counts = counts
        self._waiting = Waiting(later)
        self._turns = count()

    def ready(self, message: bytes, source: str, network: str) -> bytes | None:
        """The answer to a question by UDP if a whole one is ready, as of :meth:`answer`.

        It is not counted: who has many questions at once counts them together.
        """
        segment = self.directory.segments.get(network)
        if segment is None:
            return None
        asker = segment.askers.get(source) or _anybody(segment, source)
        if asker is None:
            return None
        ready = _ready(asker, message)
        return None if ready is None else ready.give(message[:2])

    def answer(
        self, message: bytes, source: str, network: str, reply: Reply, *, tcp: bool
    ) -> bytes | None:
        """The answer to `message` from the address `source`, which came by a socket of `network`.

        `None` if there is none yet: `reply` is called with it later, once; or never, if there will
        be none.
        """
        segment = self.directory.segments.get(network)
        asker = None
        if segment is not None:
            asker = segment.askers.get(source) or _anybody(segment, source)
            if asker is not None:
                ready = _ready(asker, message)
                if ready is not None and not (tcp and ready.truncated):
                    self._counts.answered("cached", tcp=tcp)
                    return ready.give(message[:2])
        try:
            query = parse(message, tcp=tcp)
        except NoQuestion:
            self._counts.answered("dropped", tcp=tcp)
            return None
        except BadQuestion as bad:
            self._counts.answered("malformed", tcp=tcp)
            return error(message, bad.code, bad.question)
        if asker is None:
            return self._unknown(query, source, segment, reply, tcp=tcp)
        return self._known(query, asker, reply, tcp=tcp)

    def learned(self) -> None:
        """The directory has learned of sandboxes: look again at those who wait."""
        self._waiting.look(self._asker_at)
        self._counts.waiting = self._waiting.count

    def _asker_at(self, at: tuple[str, str]) -> Asker | None:
        network, source = at
        segment = self.directory.segments.get(network)
        if segment is None:
            return None
        return segment.askers.get(source) or _anybody(segment, source)

    def _unknown(
        self, query: Query, source: str, segment: Segment | None, reply: Reply, *, tcp: bool
    ) -> bytes | None:
        """The answer to somebody of whom nobody has told: that may come in a moment."""
        counts = self._counts

        def known(asker: Asker) -> None:
            counts.waited("answered")
            answer = self._known(query, asker, reply, tcp=tcp)
            if answer is not None:
                reply(answer)

        def unknown() -> None:
            counts.waited("refused")
            counts.waiting = self._waiting.count
            reply(self._refused(query, tcp=tcp))

        if (
            segment is None
            or not segment.line.names
            or not segment.has(source)
            or not self._waiting.add((segment.line.name, source), known, unknown)
        ):
            return self._refused(query, tcp=tcp)
        counts.waiting = self._waiting.count
        return None

    def _known(self, query: Query, asker: Asker, reply: Reply, *, tcp: bool) -> bytes | None:
        if query.class_ not in (IN, ANY) or query.type in _META:
            return self._refused(query, tcp=tcp)
        directory = self.directory
        found = resolve(directory, asker, query.name)
        if found is None:
            return self._elsewhere(query, asker, reply, tcp=tcp)
        answer = directory.zone.answer(query, found, next(self._turns))
        self._keep(query, asker, found, answer, tcp=tcp)
        self._counts.answered(answer.outcome, tcp=tcp)
        return answer.give(query.id)

    def _keep(self, query: Query, asker: Asker, found: Found, answer: Answer, *, tcp: bool) -> None:
        if not query.key or (tcp and answer.length + len(query.id) > UDP_WITHOUT_EDNS):
            return
        if not found.own:
            asker.view.keep(query.key, answer)
        elif not found.uses:
            if len(asker.answers) >= _OWN_AT_MOST:
                asker.answers.clear()
            asker.answers[query.key] = answer

    def _elsewhere(self, query: Query, asker: Asker, reply: Reply, *, tcp: bool) -> bytes | None:
        """Have others answer, if it may ask them.

        Who is in internal networks alone is told that there is no such name: musl takes REFUSED
        for no answer, and waits for another (`src/network/res_msend.c`).
        """
        if asker.forwards and asker.limits is not None:
            return self._limited(query, asker, asker.limits, reply, tcp=tcp)
        if asker.forwards and asker.servers is None:
            self._counts.answered("refused", tcp=tcp)
            return failure(query, SERVFAIL)
        if asker.forwards:
            assert asker.servers is not None
            self._forward.ask(query, asker.servers, asker.key, reply)
            return None
        if asker.is_host:
            return self._refused(query, tcp=tcp)
        self._counts.answered("nxdomain", tcp=tcp)
        return failure(query, NXDOMAIN)

    def _limited(
        self, query: Query, asker: Asker, limits: NameLimits, reply: Reply, *, tcp: bool
    ) -> bytes | None:
        """Have others answer who may ask for some names alone, once the addresses are open.

        Other names do not exist for it, and nothing but addresses: what else a name may have, such
        as an HTTPS record, leads to addresses that nothing opens. Servers that it has named itself
        are not asked, since they would choose the addresses.
        """
        name = host_name(query.name)
        places = limits.opens(name)
        if not (places or limits.free):
            if limits.places and name and not name.endswith(_REVERSE):
                self._opener.reject(name, limits.places[0], asker.key)
            self._counts.answered("refused", tcp=tcp)
            return blocked(query)
        if query.type in _ADDRESSES and query.class_ == IN:
            if places:
                reply = self._opener.before(reply, query, name, places, asker.key)
        elif not limits.free:
            self._counts.answered("nodata", tcp=tcp)
            return failure(query, NOERROR)
        servers = () if places else asker.servers
        if servers is None:
            return self._refused(query, tcp=tcp)
        self._forward.ask(query, servers, asker.key, reply)
        return None

    def _refused(self, query: Query, *, tcp: bool) -> bytes:
        self._counts.answered("refused", tcp=tcp)
        return failure(query, REFUSED)


def _anybody(segment: Segment, source: str) -> Asker | None:
    """Who asks from an address of a network without guard: it proves nothing."""
    return segment.anybody if segment.anybody is not None and segment.has(source) else None


def _ready(asker: Asker, message: bytes) -> Answer | None:
    """The answer that was made to the same question, if it was kept."""
    if asker.wires and message[HEADER : message.find(0, HEADER) + 1].lower() in asker.wires:
        return asker.answers.get(message[2:])
    return asker.view.answers.get(message[2:])
