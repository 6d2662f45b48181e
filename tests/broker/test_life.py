"""When the broker ends: with the service, and when nobody reads."""

from __future__ import annotations

import os
import signal
import socket

from tests.broker.conftest import ServiceMaker
from tests.support.broker import Service, sandbox


def test_readers_see_the_end_of_the_service(service: Service) -> None:
    service.start([sandbox(1)])
    with service.reader() as reader:
        reader.follow()
        service.event(sandbox(2))
        service.feed.close()
        while reader.read(answers=False):
            pass
        assert service.agrees(reader.known)
    assert service.ended()


def test_it_ends_when_nobody_reads(make_service: ServiceMaker) -> None:
    service = make_service(linger=0.2)
    with service.reader() as reader:  # before it has begun to count
        service.start([sandbox(1)])
        reader.follow()
        assert not service.ended(timeout=0.6)
    assert service.ended()


def test_it_does_not_end_by_the_terminals_signal(service: Service) -> None:
    service.start([sandbox(1)])
    service.picture()
    signal.pidfd_send_signal(service.pidfd, signal.SIGINT)
    service.event(sandbox(2))
    assert service.agrees(service.picture())


def test_whoever_connected_while_it_was_stopped_is_served(service: Service) -> None:
    service.start([sandbox(1)])
    service.picture()
    os.kill(service.pid, signal.SIGSTOP)
    with service.reader() as reader:
        reader.connection.shutdown(socket.SHUT_WR)
        service.churn(range(50), 1)
        os.kill(service.pid, signal.SIGCONT)
        assert service.agrees(reader.follow())
