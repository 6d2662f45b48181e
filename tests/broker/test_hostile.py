"""Readers that mean no good, and what the broker could do if one of them took it over."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from tests.broker.conftest import ServiceMaker
from tests.support.broker import Reader, Service, sandbox


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
    served: list[Reader] = []
    for reader in readers:
        while reader.read() and not reader.known.complete:
            pass
        if reader.known.complete:
            served.append(reader)
    assert len(served) == 32
    assert [reader in served for reader in readers] == [True] * 32 + [False] * 32
    service.event(sandbox(2))
    for reader in served:
        assert service.agrees(reader.follow())
    for reader in readers:
        reader.close()
    assert service.agrees(service.picture())


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
    opened = [str(path.readlink()) for path in Path(f"/proc/{service.pid}/fd").iterdir()]
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
