r"""How a command waits for an address that the service has claimed for it.

They speak by `claims.sock`, a packet of JSON each:

{"network": "default", "address": "172.19.200.7"}    may it be leased here?
{}                                                   it may, as long as the connection is there
{"refused": "cannot be claimed: host \"b\" has it"}  it may not

So the command that waits has the claim until it is leased. If it is killed, it has it no more.
"""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct

from watcher.model.errors import Unclaimed

if TYPE_CHECKING:
    from watcher.model.address import Address

SOCKET: Final = "claims.sock"
"""Its name in `run_dir`."""

LONGEST: Final = 1024
"""The most bytes of a packet."""

PATIENCE: Final = 10.0
"""Seconds that a command waits for all of its addresses; `watcher cluster` refuses after 3 or 4."""

_NOBODY: Final = "is in no block of this host, and no service claims it: nobody hears at"
_ENDED: Final = "is in no block of this host, and the service has ended meanwhile"
_LATE: Final = f"is in no block of this host, and was not granted within {PATIENCE:g} s"


class Wanted(Struct, frozen=True):
    """What a command asks for."""

    network: Annotated[str, Meta(max_length=64)]
    address: Annotated[str, Meta(max_length=45, pattern="^[0-9a-fA-F.:]+$")]


class Reply(Struct, frozen=True, omit_defaults=True):
    """What the service replies; `refused` says why not, as the end of a sentence."""

    refused: str = ""


def understood(packet: bytes) -> tuple[str, Address] | None:
    """The network and the address that a packet asks for; `None` if it asks for none."""
    try:
        wanted = msgspec.json.decode(packet, type=Wanted)
        return wanted.network, ip_address(wanted.address)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


class Waiting:
    """A command that waits for addresses, and has them until it is closed.

    Args:
        run_dir: where the service is.
    """

    def __init__(self, run_dir: str) -> None:
        self._path = f"{run_dir}/{SOCKET}"
        self._socket: socket.socket | None = None
        self._until = 0.0

    def close(self) -> None:
        """Have the service want the addresses no more; those that are leased stay."""
        if self._socket is not None:
            self._socket.close()

    def wait(self, wanted: Unclaimed) -> None:
        """Wait until the address may be leased. The caller has no lock.

        Raises:
            Unclaimed: it may not, with the reason.
            OSError: the service cannot be asked.
        """
        if why := self._refusal(wanted):
            raise Unclaimed(wanted.network, wanted.address, wanted.value, why)

    def _refusal(self, wanted: Unclaimed) -> str:
        """Why it may not be leased; empty if it may."""
        try:
            service = self._connected()
            left = self._until - time.monotonic()
            if left <= 0:
                return _LATE
            service.settimeout(left)
            service.send(msgspec.json.encode(Wanted(wanted.network, str(wanted.address))))
            packet = service.recv(LONGEST)
        except (ConnectionRefusedError, FileNotFoundError):
            return f"{_NOBODY} {self._path}"
        except TimeoutError:
            return _LATE
        except ConnectionError:
            return _ENDED
        return msgspec.json.decode(packet, type=Reply).refused if packet else _ENDED

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._until = time.monotonic() + PATIENCE
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.settimeout(PATIENCE)
            self._socket.connect(self._path)
        return self._socket
