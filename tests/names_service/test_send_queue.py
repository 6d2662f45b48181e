"""Answers that cannot go, because their receiver answers no ARP, keep no others from going."""

from __future__ import annotations

import socket

from tests.support import traffic
from tests.support.host import GATEWAY, Host
from watcher.model.names import PORT
from watcher.names.transport.send_queue import SOME, SendQueue

_ANSWER = b"x" * 100
_SMALL = 64 << 10
_SILENT = [f"172.19.9.{number}" for number in range(1, 9)]
"""Addresses of the network at which nobody is, and so nobody answers ARP."""


def test_who_answers_no_arp_cannot_fill_the_send_buffer(served: Host) -> None:
    web = served.attach("web")
    with (
        traffic.make_socket(served.here.netns, socket.AF_INET, socket.SOCK_DGRAM) as ours,
        traffic.make_socket(web.place.netns, socket.AF_INET, socket.SOCK_DGRAM) as webs,
    ):
        webs.bind((web.address, PORT))
        webs.settimeout(traffic.ENOUGH)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL)
        ours.bind((GATEWAY, PORT))
        ours.setblocking(False)
        queue = SendQueue(ours)

        def web_gets_one() -> bool:
            return queue.send(_ANSWER, (web.address, PORT)) and webs.recv(4096) == _ANSWER

        def is_careful() -> bool:
            queue.look()
            return queue.careful

        assert web_gets_one()
        assert not is_careful()
        for _ in range(SOME // len(_ANSWER)):
            ours.sendto(_ANSWER, (_SILENT[0], PORT))
            if is_careful():
                break
        assert is_careful()
        went = dict.fromkeys(_SILENT, 0)
        for _ in range(_SMALL // len(_ANSWER)):
            for address in _SILENT:
                went[address] += queue.send(_ANSWER, (address, PORT))
        assert is_careful()
        assert all(0 < count < _SMALL // len(_ANSWER) for count in went.values()), went
        assert web_gets_one()
