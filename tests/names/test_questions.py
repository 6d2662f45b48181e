"""Messages that are no question, or an odd one."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import pytest

from tests.names.world import World, container, network, sandbox, told

AT = "172.19.0.2"
PLAIN = dns.message.make_query("web", "A", id=0x1234).to_wire()
EDNS = dns.message.make_query("web", "A", id=0x1234, use_edns=0).to_wire()
AT_OPT = len(PLAIN)
NAME = slice(12, 17)


@pytest.fixture
def world() -> World:
    return World(network(), sandbox(2, container("web"), default=AT))


def put(message: bytes, at: int, new: bytes) -> bytes:
    return message[:at] + new + message[at + len(new) :]


@pytest.mark.parametrize(
    "message",
    [b"", PLAIN[:2], PLAIN[:11], put(PLAIN, 2, b"\x81"), put(PLAIN, 2, b"\xa8")],
    ids=["empty", "id", "header", "answer", "notify-answer"],
)
def test_what_is_dropped(world: World, message: bytes) -> None:
    assert world.send(message, AT) is None
    assert not world.late
    assert not world.forwarded
    assert world.totals.udp["dropped"] == 1 == sum(world.totals.udp.values())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (PLAIN[:12], "FORMERR"),
        (PLAIN[:-1], "FORMERR"),
        (PLAIN + b"x", "FORMERR"),
        (put(PLAIN, 4, b"\0\0"), "FORMERR"),
        (put(PLAIN, 4, b"\0\2"), "FORMERR"),
        (put(PLAIN, 12, b"\xc0\x0c"), "FORMERR"),
        (put(PLAIN, 12, b"\x40"), "FORMERR"),
        (PLAIN[:12] + b"\x3f" + b"a" * 63 + b"\x3f" * 192 + b"\0\0\1\0\1", "FORMERR"),
        (put(PLAIN, 6, b"\0\1"), "FORMERR"),
        (put(PLAIN, 10, b"\xff\xff"), "FORMERR"),
        (put(PLAIN, 2, b"\x29"), "NOTIMP"),
        (put(PLAIN, 2, b"\x20"), "NOTIMP"),
        (EDNS[:-1], "FORMERR"),
        (put(EDNS, len(EDNS) - 2, b"\0\5") + b"\0\x0a\0\x09x", "FORMERR"),
        (put(EDNS, 10, b"\0\2") + EDNS[AT_OPT:], "FORMERR"),
        (put(put(EDNS, 10, b"\0\0"), 8, b"\0\1"), "FORMERR"),
        (put(EDNS, AT_OPT + 6, b"\1"), "BADVERS"),
        (put(EDNS, 10, b"\0\1") + bytes(5000), "FORMERR"),
        (put(PLAIN, len(PLAIN) - 1, b"\3"), "REFUSED"),
        (put(PLAIN, len(PLAIN) - 1, b"\xfe"), "REFUSED"),
        (put(PLAIN, len(PLAIN) - 3, b"\xfc"), "REFUSED"),
    ],
)  # fmt: skip
def test_what_gets_an_error(world: World, message: bytes, code: str) -> None:
    for tcp in (False, True):
        raw = world.send(message, AT, tcp=tcp)
        assert raw is not None
        answer = dns.message.from_wire(raw)
        assert answer.id == 0x1234
        assert answer.flags & dns.flags.QR
        assert dns.rcode.to_text(answer.rcode()) == code
        assert answer.opcode() == (message[2] >> 3) & 15
        assert answer.edns == (0 if code == "BADVERS" else -1)
    assert {end for end, count in world.totals.udp.items() if count} <= {"malformed", "refused"}


def test_what_is_odd_and_understood(world: World) -> None:
    cookie = dns.message.make_query(
        "web", "A", use_edns=0, options=[dns.edns.CookieOption(b"12345678", b"")]
    )
    padded = dns.message.make_query("web", "A", use_edns=0, pad=468)
    signed = dns.message.make_query("web", "A", use_edns=0)
    signed.use_tsig(dns.tsigkeyring.from_text({"key.": "c2VjcmV0"}))
    for query in (cookie, padded, signed):
        raw = world.send(query.to_wire(), AT)
        assert raw is not None
        assert raw[:2] == query.id.to_bytes(2)
        answer = dns.message.from_wire(raw)
        assert told(answer) == [AT]
        assert answer.edns == 0
        assert not answer.options
    any_class = dns.message.make_query("web", "A", "ANY")
    raw = world.send(any_class.to_wire(), AT)
    assert raw is not None
    assert told(dns.message.from_wire(raw)) == [AT]
    assert told(world.asks(AT, "web", use_edns=0, payload=0)) == [AT]


def test_records_of_any_class_and_type_leave_nothing_behind(world: World) -> None:
    remembered = dict(dns.rdata._rdata_classes)
    for number in range(500):
        odd = b"\0%b%b\0\0\0\0\0\1x" % (number.to_bytes(2), (1000 + number).to_bytes(2))
        raw = world.send(put(PLAIN, 6, b"\0\1") + odd, AT)
        assert raw is not None
        assert raw[3] & 15 == (1 if number == 41 else 0)
    assert dns.rdata._rdata_classes == remembered


def test_the_longest_name_is_taken_and_no_longer_one(world: World) -> None:
    long = ".".join(["a" * 63] * 3 + ["b" * 44, "watcher", "internal"])
    longest = dns.name.from_text(long).to_wire()
    assert longest is not None
    assert len(longest) == 255
    assert world.gets(AT, long) == ["NXDOMAIN"]
    wire = put(PLAIN[:12], 4, b"\0\1") + longest[:-1]
    for last, code in ((b"\1b\0", dns.rcode.FORMERR), (b"\0", dns.rcode.NXDOMAIN)):
        answer = world.send(wire + last + b"\0\1\0\1", AT)
        assert answer is not None
        assert answer[3] & 15 == code


def test_malformed_messages_of_strangers_do_not_wait(world: World) -> None:
    raw = world.send(PLAIN + b"x", "172.19.0.99")
    assert raw is not None
    assert raw[3] & 15 == dns.rcode.FORMERR
    assert world.timers == []
