"""Who is not the name service opens nothing, and the name service harms nobody by what it says."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

from handlers.firewall.opened import MOST_OF_LIST
from tests.support.answering import Telling, open_addresses
from watcher.answers.protocol import LONGEST, MOST_ADDRESSES
from watcher.answers.server import MOST_PEERS, MOST_WAITING
from watcher.feed.names import ANSWERS

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker

NAME: Final = "api.example.org"
LIST: Final = {"io.watcher.egress": f"{NAME}:443/tcp"}
USER: Final = 4321
OTHER: Final = 4322

AS_OTHER: Final = """
import json, socket, sys
end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
end.connect(sys.argv[1])
end.settimeout(10)
try:
    end.send(sys.argv[2].encode())
    print(end.recv(65536).decode())
except OSError:
    print()
"""


def told_by(host: Host, user: int, packet: str) -> str:
    """What a process of a user is replied; empty if its connection ends."""
    socket = str(host.run_dir / ANSWERS)
    who = (f"--reuid={user}", f"--regid={user}", "--clear-groups")
    return host.command(
        "setpriv", *who, sys.executable, "-c", AS_OTHER, socket, packet
    ).stdout.strip()


def test_only_the_name_service_s_user_is_heard(make_host: HostMaker) -> None:
    host = make_host()
    host.service()
    address = host.attach("limited", annotations=LIST).address
    with Telling(host.run_dir):
        assert (host.run_dir / ANSWERS).stat().st_mode & 0o7 == 0
    (host.run_dir / ANSWERS).chmod(0o666)  # as if the group were everybody's
    packet = json.dumps(
        {"number": 5, "from": address, "network": "default", "name": NAME,
         "addresses": [["93.184.216.34", 60]]}
    )  # fmt: skip
    assert told_by(host, OTHER, packet) == ""
    assert open_addresses(host.nft_list()) == {}
    (host.run_dir / "names").mkdir()  # as the name service's unit does
    os.chown(host.run_dir / "names", USER, USER)
    assert told_by(host, OTHER, packet) == ""
    assert open_addresses(host.nft_list()) == {}
    assert json.loads(told_by(host, USER, packet)) == {"number": 5}
    assert list(open_addresses(host.nft_list())) == ["93.184.216.34"]


def test_what_a_name_service_says_harms_nobody(make_host: HostMaker) -> None:
    host = make_host()
    service = host.service()
    address = host.attach("limited", annotations=LIST).address
    other = host.attach("other", annotations={"io.watcher.egress": f"{NAME}:80/tcp"}).address
    with Telling(host.run_dir) as good:
        for garbage in (
            b"{", b"[]", b"\xff", b"[" * 30000, b"x" * (LONGEST + 1), b'{"number": 1}',
            b'{"from": 7, "network": "default"}',
            b'{"from": "1.2.3.4", "network": "default", "number": -1}',
            b'{"from": "1.2.3.4", "network": "default", "addresses": [["1.2.3.4", -1]]}',
        ):  # fmt: skip
            with Telling(host.run_dir) as bad:
                bad.socket.send(garbage)
                assert bad.ended(), garbage
        assert good.answer(address, NAME, "8.8.8.8") == ""

        # Who does not read loses its connection, and nobody waits.
        with Telling(host.run_dir) as deaf:
            try:
                for _ in range(100 * MOST_WAITING):
                    deaf.send_answer(address, NAME, "8.8.8.8")
                raise AssertionError("it was never ended")
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert good.answer(address, NAME, "8.8.8.8") == ""

        many = [Telling(host.run_dir) for _ in range(3 * MOST_PEERS)]
        assert many[-1].ended()
        assert good.answer(address, NAME, "8.8.8.8") == ""
        assert many[0].answer(address, NAME, "8.8.8.8") == ""
        for one in many:
            one.socket.close()

        # A name that leads everywhere opens so much and no more, and only for its own list.
        full = ""
        for number in range(MOST_OF_LIST // MOST_ADDRESSES + 1):
            some = [f"20.0.{number}.{last}" for last in range(MOST_ADDRESSES)]
            full = full or good.answer(address, NAME, *some)
        assert "addresses are open for the list" in full
        more = good.answer(address, NAME, "8.8.8.8", "20.1.0.1")
        assert more == "many addresses are open for its list", "it is not looked at"
        assert good.answer(other, NAME, "8.8.8.8") == ""
        assert good.answer(address, NAME, "8.8.8.8") == ""  # it is open
        opened = open_addresses(host.nft_list())
        assert MOST_OF_LIST - MOST_ADDRESSES < len(opened) <= MOST_OF_LIST

        # Where there is no IPv6, an address of it is nothing to open.
        assert good.answer(other, NAME, "2606:2800:220:1::34") == ""
        assert len(open_addresses(host.nft_list())) == len(opened)

        host.nft("flush", "ruleset")
        assert good.answer(other, NAME, "9.9.9.9") == ""
        assert len(open_addresses(host.nft_list())) == len(opened) + 1
    assert "Traceback" not in service.log_text()
