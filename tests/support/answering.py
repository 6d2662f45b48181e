"""A name service's side of answers.sock: it tells answers, and gets replies."""

from __future__ import annotations

import json
import socket
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from tests.support.waiting import PATIENCE, eventually
from watcher.feed.names import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Telling:
    """A connection to the service with `run_dir`, as the name service has one."""

    def __init__(self, run_dir: Path) -> None:
        self._numbers = count(1)
        self.socket = eventually(lambda: connected(run_dir), what="a connection to answers.sock")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, **told: Any) -> None:
        """Says something; `sender` is the field `from`."""
        told["from"] = told.pop("sender")
        self.socket.send(json.dumps({"network": "default", **told}).encode())

    def send_answer(self, sender: str, name: str, *addresses: str, ttl: int = 60) -> int:
        """Tells an answer, and returns its number."""
        number = next(self._numbers)
        records = [[address, ttl] for address in addresses]
        self.send(sender=sender, name=name, addresses=records, number=number)
        return number

    def reply(self) -> dict[str, Any]:
        """The next reply."""
        reply: dict[str, Any] = json.loads(self.socket.recv(65536))
        return reply

    def answer(self, sender: str, name: str, *addresses: str, ttl: int = 60) -> str:
        """Tells an answer, and waits for the reply: why it must not leave, or nothing."""
        number = self.send_answer(sender, name, *addresses, ttl=ttl)
        reply = self.reply()
        assert reply.pop("number") == number, reply
        return str(reply.pop("refused", ""))

    def ended(self) -> bool:
        """Whether the service ends the connection."""
        try:
            return self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True


def connected(run_dir: Path) -> socket.socket:
    """A connection of its own."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.settimeout(PATIENCE)
        end.connect(str(run_dir / ANSWERS))
    except BaseException:
        end.close()
        raise
    return end


def open_addresses(listing: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of `nft -j list ruleset`, the elements of what names have opened, by their addresses."""
    maps = [o["map"] for o in listing if o.get("map", {}).get("name") in ("opened4", "opened6")]
    return {
        key["elem"]["val"]["concat"][1]: key["elem"]
        for map_ in maps
        for key, _ in map_.get("elem", ())
    }
