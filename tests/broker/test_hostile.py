"""Readers that mean no good, and what the broker could do if one of them took it over."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.broker.conftest import ServiceMaker
from tests.support.broker import Reader, Service, sandbox
from tests.support.waiting import eventually


def test_what_readers_send_is_dropped_and_who_insists_is_closed(service: Service) -> None:
    service.start([sandbox(1)])
    with service.reader() as good, service.reader() as talks, service.reader() as insists:
        for reader in (good, talks, insists):
            reader.follow()
        talks.connection.sendall(b'{"type":"state"}\n\0\xff' * 1000)
        with pytest.raises(OSError):  # noqa: PT011 (reset, or a broken pipe)
            insists.connection.sendall(bytes(8 << 20))
        service.event(sandbox(2))
        for reader in (good, talks):
            assert service.agrees(reader.follow())


def test_a_reader_that_ends_what_it_sends_goes_on_reading(service: Service) -> None:
    service.start([sandbox(1)])
    with service.reader() as reader:
        reader.connection.shutdown(socket.SHUT_WR)
        reader.follow()
        service.event(sandbox(2))
        assert service.agrees(reader.follow())
        before = service.cpu()
        reader.connection.shutdown(socket.SHUT_RD)
        service.event(sandbox(3))
        assert service.agrees(service.picture())
        assert service.cpu() - before < 0.5  # it does not spin


def test_there_is_an_end_to_descriptors(make_service: ServiceMaker) -> None:
    """Who is too many is closed at once. The others are served, and so is who comes later."""
    service = make_service(descriptors=64)
    service.start([sandbox(1)])
    readers = [service.reader() for _ in range(64)]
    served = [reader for reader in readers if is_served(reader)]
    assert len(served) == 32
    assert [reader in served for reader in readers] == [True] * 32 + [False] * 32
    service.event(sandbox(2))
    for reader in served:
        assert service.agrees(reader.follow())
    for reader in readers:
        reader.close()
    assert service.agrees(service.picture())


def test_a_user_with_many_readers_keeps_out_neither_root_nor_others(
    make_service: ServiceMaker,
) -> None:
    service = make_service(descriptors=64)  # 32 readers: 4 of each user, and 28 of all but root
    service.run_dir.parent.chmod(0o711)
    service.path.chmod(0o666)
    service.start([sandbox(1)])
    with ExitStack() as opened:
        users = range(2001, 2010)
        readers = [[opened.enter_context(reader_of(service, u)) for _ in range(8)] for u in users]
        assert [sum(map(is_served, those)) for those in readers] == [4] * 7 + [0, 0]
        assert service.agrees(service.picture())
        for reader in readers[0]:
            reader.close()
        with reader_of(service, users[-1]) as late:
            assert is_served(late)


def reader_of(service: Service, user: int) -> Reader:
    """A new reader of that user."""
    os.seteuid(user)
    try:
        return service.reader()
    finally:
        os.seteuid(0)


def is_served(reader: Reader) -> bool:
    """Whether it gets the state; else it is closed."""
    while not reader.known.complete:
        try:
            if not reader.read():
                return False
        except ConnectionError:
            return False
    return True


def test_the_broker_has_no_power(service: Service) -> None:
    service.start([sandbox(1)])
    service.picture()
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{service.pid}/status").read_text().splitlines()
    )
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"] == "1"
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        assert resource.prlimit(service.pid, limit) == (0, 0)
    opened = eventually(  # again if one is just being closed
        lambda: [str(path.readlink()) for path in Path(f"/proc/{service.pid}/fd").iterdir()]
    )
    files = [name for name in opened if name.startswith("/") and not name.startswith("/dev/")]
    assert [name for name in files if not name.endswith("(deleted)")] == []  # but for pytest's own


def test_the_broker_gives_way_to_the_service(service: Service) -> None:
    service.start([sandbox(1)])
    service.picture()
    assert os.sched_getscheduler(service.pid) == os.SCHED_BATCH
    assert int(Path(f"/proc/{service.pid}/oom_score_adj").read_text()) >= 500


def test_a_feed_that_makes_no_sense_ends_the_broker(service: Service) -> None:
    service.start([sandbox(1)])
    service.picture()
    service.send(b"nonsense\n")
    status = os.waitid(os.P_PIDFD, service.pidfd, os.WEXITED | os.WNOWAIT)
    assert status is not None
    assert (status.si_code, status.si_status) == (os.CLD_EXITED, 1)
