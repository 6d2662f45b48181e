"""Everything that others write, as any bytes: no traceback, no hang, no unbounded memory.

`python tests/fuzz/fuzz.py 1000000` (`make fuzz`) makes so many inputs out of those in the corpus
beside it, by changing, cutting and joining them, and gives each to what reads such a thing. What
may be told to a user is a WatcherError; all else is a defect, and its input is kept in the corpus,
where test_fuzz.py tries it ever after.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.mutation import mutate
from watcher.config import load
from watcher.containers.annotations import KEYS, parse_request
from watcher.containers.runtimes.crun import decode_config, decode_status
from watcher.containers.runtimes.runc import NEWNET, annotations_of, decode_state
from watcher.containers.spec import decode_spec, namespace_of
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import WatcherError
from watcher.model.keys import PREFIX
from watcher.model.network import Network
from watcher.model.request import PortMap, Request
from watcher.names.upstream import hosts_servers
from watcher.names.upstream.messages import is_answer, make_reply, read_answer
from watcher.names.upstream.walk import Malformed
from watcher.names.wire.query import parse
from watcher.store.leases import Failure, LeaseStore

type Target = Callable[[bytes, Path], object]

CORPUS: Final = Path(__file__).with_name("corpus")
LONGEST: Final = 0.1
"""Seconds of the processor for one input."""

MEMORY: Final = 1 << 30
BIGGEST: Final = 1 << 16
"""Bytes of an input."""

_WORDS: Final = (
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b"\0",
        b"\xff",
        b"\n",
        b",",
        b":",
        b"=",
        b"-",
        b".",
        b"/",
    ),
    *(
        b"0",
        b"-1",
        b"65535",
        b"65536",
        b"9" * 30,
        b"1e999",
        b"null",
        b"true",
        b"\\ud800",
        b"\\u0000",
    ),
    *("٣".encode(), "é".encode(), "\u202e".encode(), b"[" * 200, b"{'a':" * 100, b"a." * 200),
    *(b"8080:80", b"1-65535:1-65535", b"[::1]:1:1", b"::ffff:1.2.3.4", b"fe80::1%eth0", b"/udp"),
)


def _state(data: bytes, _: Path) -> None:
    config = decode_state(data, "state.json").config
    namespace_of(config.namespaces or (), NEWNET)
    parse_request(annotations_of(config.labels or ()))


def _bundle(data: bytes, _: Path) -> None:
    with suppress(WatcherError):
        decode_status(data, "status")
    with suppress(WatcherError):
        decode_config(data, "config.json")
    spec = decode_spec(data, "config.json")
    namespace_of(spec.namespaces, "network")
    parse_request(spec.annotations)


def _labels(data: bytes, _: Path) -> None:
    parse_request(annotations_of(data.decode(errors="surrogateescape").split("\n")))


def _annotations(data: bytes, _: Path) -> None:
    value = data.decode(errors="surrogateescape")
    for key in KEYS:
        with suppress(WatcherError):
            parse_request({PREFIX + key: value})
    parse_request({PREFIX + value: value})


def _configuration(data: bytes, directory: Path) -> None:
    file = directory / "watcher.toml"
    file.write_bytes(data)
    load.load(file)


def _database(data: bytes, directory: Path) -> None:
    file = directory / "leases.db"
    for leftover in directory.glob("leases.db*"):
        leftover.unlink()
    file.write_bytes(data)
    for read_only in (True, False):
        with suppress(WatcherError), LeaseStore.open(file, read_only=read_only) as store:
            store.sandboxes()
            store.failures()
            store.sandbox_named("web")


def _answer(data: bytes, _: Path) -> None:
    query = parse(ASKED, tcp=False)
    if not is_answer(data, query.id, query.question):
        return
    with suppress(Malformed):
        answer = read_answer(data, query.question)
        for tcp, age in ((False, 0), (True, 100)):
            query = parse(ASKED, tcp=tcp)
            assert len(make_reply(query, answer, age)) <= query.most


def _resolv(data: bytes, _: Path) -> None:
    choice = hosts_servers.parse(data.decode("utf-8", "replace"))
    for server in choice.servers:
        with suppress(OSError):
            server.address(53)


TARGETS: Final[Mapping[str, Target]] = {
    "state": _state,
    "labels": _labels,
    "annotations": _annotations,
    "bundle": _bundle,
    "configuration": _configuration,
    "database": _database,
    "answer": _answer,
    "resolv": _resolv,
}
SHARES: Final = {
    "state": 22, "labels": 18, "annotations": 15, "bundle": 12, "configuration": 7, "answer": 20,
    "resolv": 5,
}  # fmt: skip
"""Of a hundred inputs; the others are databases, which take a file each."""
ASKED: Final = b"\0\7\1\0\0\1\0\0\0\0\0\1\3web\7example\0\0\1\0\1\0\0\x29\4\xd0\0\0\x80\0\0\0"
"""The question to which answers are those of a server."""


def corpus(kind: str) -> list[bytes]:
    """The inputs of that kind that are kept."""
    return [file.read_bytes() for file in sorted((CORPUS / kind).iterdir())]


def some_database() -> bytes:
    """A lease store as the program makes it."""
    with TemporaryDirectory() as directory:
        file = Path(directory, "leases.db")
        web = Container("/run/runc", "web", Process(4, 5), "/web", {}, Namespace.OWN, "", 6)
        with LeaseStore.open(file) as store:
            store.note("a", "b")
            store.create_sandbox(web, [Network()], Request(ports=(PortMap("tcp", None, 8080, 80),)))
            store.fail(
                Failure("/run/runc", "bad", None, "key", "value", "reason", refused=True, at=7)
            )
        return file.read_bytes()


def attempt(target: Target, data: bytes, directory: Path) -> str:
    """Gives `data` to what reads such a thing; what was wrong about that, if anything."""
    try:
        target(data, directory)
    except WatcherError as error:
        told = str(error)
        if "\n" in told or len(told) > 1500:
            return f"not a line that one can read: {told[:200]!r}"
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return f"{type(error).__name__}: {error}"
    return ""


class Inputs:
    """Inputs made of those that are kept, always the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._known = {kind: corpus(kind) for kind in TARGETS}
        self._known["database"].append(some_database())

    def kind(self) -> str:
        """One of the kinds, each by its share."""
        number = self._random.randrange(100)
        for kind, share in SHARES.items():
            if number < share:
                return kind
            number -= share
        return "database"

    def make(self, kind: str) -> bytes:
        """Another input of that kind."""
        random_ = self._random
        data = bytearray(random_.choice(self._known[kind]))
        for _ in range(random_.choice((1, 1, 2, 3, 5, 20))):
            mutate(random_, data, self._known[kind], _WORDS, lengths=(1, 1, 2, 4, 16, 100))
        return bytes(data[:BIGGEST])


def tell(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(count: int, seed: int) -> int:
    """Tries `count` inputs; the number of defects."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    inputs = Inputs(seed)
    tried = dict.fromkeys(TARGETS, 0)
    found: set[str] = set()
    begun = time.monotonic()
    with TemporaryDirectory() as directory:
        for number in range(1, count + 1):
            kind = inputs.kind()
            data = inputs.make(kind)
            before = time.process_time()
            wrong = attempt(TARGETS[kind], data, Path(directory))
            took = time.process_time() - before
            if not wrong and took > LONGEST:
                wrong = f"takes {took * 1000:.0f} ms"
            tried[kind] += 1
            what = f"{kind}: {wrong[:60]}"
            if wrong and what not in found:
                found.add(what)
                name = sha256(data).hexdigest()[:16]
                (CORPUS / kind / name).write_bytes(data)
                tell(f"{CORPUS / kind / name}: {wrong}")
            if number % 100_000 == 0:
                tell(f"{number} inputs, {time.monotonic() - begun:.0f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    tell(f"seed {seed}: {tried}; at most {peak} MiB; {len(found)} defects")
    return len(found)


if __name__ == "__main__":
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    sys.exit(main(int(sys.argv[1]), chosen) > 0)
