"""Tries whether this kernel can guard a link."""

from __future__ import annotations

import os
import threading
from ipaddress import IPv4Address

from handlers.guard.link import NoGuard, put
from handlers.guard.program import Facts
from handlers.kernel.netlink import Netlink
from watcher.model.errors import message_of


def why_not() -> str:
    """Why this kernel cannot guard a link; empty if it can.

    It is tried in a network namespace that only a thread of its own enters, and that ends with it.
    Nothing is said if there is no such namespace: the first sandbox tells.
    """
    found: list[str] = []
    thread = threading.Thread(target=_try, args=(found,), name="trial")
    thread.start()
    thread.join()
    return "".join(found)


def _try(found: list[str]) -> None:
    try:
        os.unshare(os.CLONE_NEWNET)
        with Netlink() as netlink:
            put(netlink, netlink.index("lo"), Facts("00:00:00:00:00:00", (IPv4Address(1),)))
    except NoGuard as error:
        found.append(message_of(error))
    except OSError:
        return
