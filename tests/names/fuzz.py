"""Any bytes as questions, from anybody, while sandboxes come and go.

`python -m tests.names.fuzz 1000000` (`make fuzz`) makes so many messages out of real questions, by
changing, cutting and joining them. Each gets an answer that dnspython understands and that has
nothing which its asker must not know, or none; and nobody else is asked about what is ours.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Final

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.tsigkeyring
from msgspec.structs import replace

from tests.names.world import DOMAIN, World, container, endpoint, network, other_host, sandbox
from tests.support.mutation import mutate
from watcher.feed.lines import SandboxLine

WEB, DB, BACK = "172.19.0.2", "172.19.0.3", "172.20.0.4"
SEEN: Final = {
    (WEB, "default"): ("172.19.",),
    (DB, "default"): ("172.19.", "172.20."),
    (BACK, "back"): ("172.20.",),
    ("172.19.0.1", "default"): ("172.19.",),
    ("172.21.5.5", "open"): ("172.21.",),
    ("fd00:21::9", "open"): ("172.21.",),
    ("172.19.200.1", "default"): (),
    ("172.20.0.4", "default"): (),
    ("192.0.2.1", "open"): (),
}
"""Who asks where, and the beginnings of the addresses that they may know."""

FORWARDED: Final = {
    (WEB, "default"),
    (DB, "default"),
    ("172.21.5.5", "open"),
    ("fd00:21::9", "open"),
}

_NAMES: Final = (
    *("web", "db", "cache", "host", "localhost", "nobody", "many", "box", "x.localhost", "."),
    *(f"{name}.{DOMAIN}" for name in ("web", "WEB.default", "cache.back", "many", "a.b.c")),
    *(DOMAIN, "internal", "example.com", f"{DOMAIN}.example.com", "api.example.com"),
    *("2.0.19.172.in-addr.arpa", "4.0.20.172.in-addr.arpa", "0.20.172.in-addr.arpa"),
    *("2.128.19.172.in-addr.arpa", "2.128.20.172.in-addr.arpa", f"far.{DOMAIN}"),
    *("1.0.0.127.in-addr.arpa", f"2.{'0.' * 23}9.1.0.0.0.0.d.f.ip6.arpa", "c" * 63 + "." + DOMAIN),
)  # fmt: skip
_TYPES: Final = ("A", "A", "AAAA", "PTR", "ANY", "SOA", "NS", "MX", "HTTPS", "AXFR", "OPT")
_WORDS: Final = (
    *(b"\0", b"\xff", b"\xc0\x0c", b"\xc0\xff", b"\x3f", b"\x40", b".", b"\0\0\x29\x04\xd0"),
    *(b"\x03web", b"\x07watcher", b"\x08internal\0", b"\0\1\0\1", b"\0\0\xfa\0\xff", b"\x01" * 40),
)  # fmt: skip
_LOCAL: Final = tuple(DOMAIN.encode().split(b"."))


def _questions() -> list[bytes]:
    found = []
    for name in _NAMES:
        found += [dns.message.make_query(name, kind, id=7).to_wire() for kind in _TYPES]
        query = dns.message.make_query(name, "A", id=7, use_edns=0, want_dnssec=True)
        found.append(query.to_wire())
        query.use_edns(0, options=[dns.edns.CookieOption(b"12345678", b"")])
        found.append(query.to_wire())
        query.use_tsig(dns.tsigkeyring.from_text({"key.": "c2VjcmV0"}))
        found.append(query.to_wire())
    return found


_OTHER: Final = other_host(
    "b", default=("172.19.128.0/24", "fd00:19::8:0/112"), back="172.20.128.0/24",
    open="172.21.128.0/24",
)  # fmt: skip


def _world() -> World:
    world = World(
        network(cluster=True), network("back", 20, internal=True, cluster=True),
        network("open", 21, guard=False), network("quiet", 22, names=False),
        sandbox(2, container("web", hostname="box"), default=(WEB, "fd00:19::2")),
        sandbox(3, container("db", hostname="api.example.com"), default=DB, back="172.20.0.3"),
        sandbox(4, container("cache", "web"), back=BACK, quiet="172.22.0.4"),
        sandbox(5, container("secret", "db"), quiet="172.22.0.5", open="172.21.0.5"),
    )  # fmt: skip
    world.remote.host(_OTHER)
    for number, name in enumerate(("web", "far", "many")):
        end = f"{number + 2}"
        world.remote.endpoint(
            endpoint(
                "b", number, name, default=(f"172.19.128.{end}", f"fd00:19::8:{end}"),
                back=f"172.20.128.{end}", open=f"172.21.128.{end}",
            )
        )  # fmt: skip
    return world


def _passing(number: int) -> SandboxLine:
    """A sandbox that comes and goes, in one network or another."""
    address = f"{number % 250 + 3}.{number % 250}"
    name, start = (("default", "172.19."), ("back", "172.20."), ("open", "172.21."))[number % 3]
    part = container(f"c{number}", "many", hostname="web")
    return sandbox(100 + number, part, **{name: f"{start}{address}"})


class Run:
    """Messages and what became of them; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._known = _questions()
        self._world = _world()
        self._number = 0
        self.codes: dict[str, int] = {}

    def step(self) -> None:
        """Send one message; an AssertionError or any other is a defect."""
        self._number += 1
        if self._number % 50 == 0:
            self._come_and_go(self._number // 50)
        message = self._message()
        who = self._random.choice(tuple(SEEN))
        tcp = self._random.random() < 0.2
        raw = self._world.send(message, *who, tcp=tcp)
        if forwarded := self._world.forwarded:
            query, _, _ = forwarded.pop()
            assert raw is None
            assert who in FORWARDED, who
            name = dns.message.from_wire(message, question_only=True).question[0].name
            labels = tuple(label.lower() for label in name.labels[:-1])
            assert query.name == labels
            assert not _is_ours(labels), name
            assert who[0] != DB or labels != (b"api", b"example", b"com")
            self._count("forwarded")
        elif self._world.timers:
            assert raw is None
            self._world.timers.pop()()
            raw = self._world.late.pop()
        if raw is None:
            self._count("nothing")
        else:
            self._judge(message, raw, who, tcp=tcp)

    def _judge(self, message: bytes, raw: bytes, who: tuple[str, str], *, tcp: bool) -> None:
        assert not message[2] & 0x80
        assert len(raw) <= (65535 if tcp else 1232)
        answer = dns.message.from_wire(raw)
        code = dns.rcode.to_text(answer.rcode())
        self._count(code)
        assert raw[:2] == message[:2]
        assert answer.flags & dns.flags.QR
        if answer.question:
            end = raw.index(b"\0", 12) if b"\0" in raw[12:] else 0
            assert raw[12:end] == message[12:end]
        assert code in ("NOERROR", "NXDOMAIN", "REFUSED", "FORMERR", "NOTIMP", "BADVERS"), code
        if code in ("NOERROR", "NXDOMAIN"):
            assert SEEN[who], who
            assert answer.question
        for records in answer.answer:
            for record in records:
                text = record.to_text()
                if records.rdtype == dns.rdatatype.A:
                    assert text.startswith((*SEEN[who], "127.")), (who, text)
                elif records.rdtype == dns.rdatatype.AAAA:
                    assert text == "::1" or text.startswith(_with_v6(who)), (who, text)
                elif records.rdtype == dns.rdatatype.PTR:
                    assert "quiet" not in text
                    assert "back" not in text or "172.20." in SEEN[who], (who, text)

    def _come_and_go(self, number: int) -> None:
        self._world.tell(_passing(number))
        self._world.directory.forget(_passing(number - 20).key)
        remote = self._world.remote
        address = f"172.{number % 3 + 19}.128.{number % 250 + 3}"
        remote.endpoint(
            endpoint("b", number, ("many", f"c{number}"), default=address, back=address)
        )
        remote.endpoint_gone("b", str(number - 20))
        remote.host(replace(_OTHER, state="silent" if number % 7 == 0 else "alive"))

    def _message(self) -> bytes:
        random_ = self._random
        data = bytearray(random_.choice(self._known))
        data[:2] = random_.randbytes(2)
        for _ in range(random_.choice((0, 0, 0, 0, 1, 1, 2, 10))):
            mutate(random_, data, self._known, _WORDS, first=2, lengths=(1, 1, 2, 4, 16))
        return bytes(data)

    def _count(self, what: str) -> None:
        self.codes[what] = self.codes.get(what, 0) + 1


def _is_ours(labels: tuple[bytes, ...]) -> bool:
    """Whether a name is local, told in another way than the program does."""
    text = b".".join(labels)
    ends = tuple(f".{number}.172.in-addr.arpa".encode() for number in (19, 20, 21, 22))
    is_single = len(labels) == 1 or labels[-1:] == (b"localhost",)
    return is_single or labels[-2:] == _LOCAL or text.endswith(ends)


def _with_v6(who: tuple[str, str]) -> tuple[str, ...]:
    return tuple(f"fd00:{start[4:6]}::" for start in SEEN[who])


def main(count: int, seed: int) -> None:
    """Try `count` messages."""
    run, begun = Run(seed), time.monotonic()
    for number in range(1, count + 1):
        run.step()
        if number % 100_000 == 0:
            sys.stdout.write(f"{number} questions, {time.monotonic() - begun:.0f} s\n")
            sys.stdout.flush()
    sys.stdout.write(f"seed {seed}: {run.codes}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns())
