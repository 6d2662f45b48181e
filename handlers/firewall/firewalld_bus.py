"""The calls of firewalld, over D-Bus.

jeepney is pure Python without dependencies and has a blocking interface. It is imported only if
there is a bus. Sources: firewalld.dbus(5), and the specification of D-Bus.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from jeepney.io.blocking import DBusConnection

_NAME: Final = "org.fedoraproject.FirewallD1"
_PATH: Final = "/org/fedoraproject/FirewallD1"
_SOCKET: Final = "/run/dbus/system_bus_socket"
_PATIENCE: Final = 3.0
"""Seconds to wait for an answer; a change of a zone takes far less."""


type Kind = Literal["Interface", "Source"]


class FirewalldRefused(OSError):
    """firewalld refused a request, or did not answer."""


def runs() -> bool:
    """Whether firewalld is on the system bus; asking does not start it."""
    if "DBUS_SYSTEM_BUS_ADDRESS" not in os.environ and not Path(_SOCKET).exists():
        return False
    try:
        with Bus.connected() as bus:
            return bus.has_firewalld()
    except OSError:  # the socket exists, but no process listens on it
        return False


def offline(*words: str) -> None:
    """Change the files of the permanent configuration, while firewalld does not run."""
    try:
        subprocess.run(["firewall-offline-cmd", *words], capture_output=True, check=False)
    except FileNotFoundError:  # firewalld and its zones were removed
        return


class Bus:
    """A connection to the system bus. Failures are :class:`FirewalldRefused`."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def connected(cls) -> Iterator[Bus]:
        """A connection, until the block ends."""
        from jeepney.io.blocking import open_dbus_connection

        try:
            connection = open_dbus_connection("SYSTEM", auth_timeout=_PATIENCE)
        except (OSError, ValueError) as error:  # an AuthenticationError is a ValueError
            raise FirewalldRefused(errno.EIO, f"the system bus cannot be used: {error}") from error
        try:
            yield cls(connection)
        finally:
            connection.close()

    def has_firewalld(self) -> bool:
        """Whether firewalld is on the bus."""
        from jeepney import DBusAddress

        bus = "org.freedesktop.DBus"
        address = DBusAddress("/org/freedesktop/DBus", bus, bus)
        return bool(self._ask(address, "NameHasOwner", "s", _NAME))

    def default_zone(self) -> str:
        """The zone of interfaces and sources that are in no other."""
        return str(self._call(_PATH, "", "getDefaultZone", ""))

    def zones_of(self, kind: Kind, thing: str) -> tuple[str, str]:
        """The zone of an interface or a source now, and after the next start; empty if none."""
        method = f"getZoneOf{kind}"
        now = self._call(_PATH, ".zone", method, "s", thing)
        return str(now), str(self._call(f"{_PATH}/config", ".config", method, "s", thing))

    def now(self, zone: str, method: str, signature: str, *words: str | int) -> object:
        """Ask or change a zone as it is now."""
        return self._call(_PATH, ".zone", method, f"s{signature}", zone, *words)

    def later(self, zone: str, method: str, signature: str, *words: str | int) -> object:
        """Ask or change a zone in the permanent configuration."""
        path = str(self._call(f"{_PATH}/config", ".config", "getZoneByName", "s", zone))
        return self._call(path, ".config.zone", method, signature, *words)

    def _call(
        self, path: str, interface: str, method: str, signature: str, *words: str | int
    ) -> object:
        from jeepney import DBusAddress

        address = DBusAddress(path, _NAME, f"{_NAME}{interface}")
        return self._ask(address, method, signature, *words)

    def _ask(self, address: Any, method: str, signature: str, *words: str | int) -> object:
        from jeepney import MessageFlag, MessageType, new_method_call

        message = new_method_call(address, method, signature, words)
        message.header.flags |= MessageFlag.no_auto_start
        try:
            reply = self._connection.send_and_get_reply(message, timeout=_PATIENCE)
        except OSError as error:  # includes TimeoutError
            raise FirewalldRefused(
                errno.EIO, f"firewalld does not answer {method}; see `firewall-cmd --state`"
            ) from error
        first = reply.body[0] if reply.body else None
        if reply.header.message_type is MessageType.error:
            shown = " ".join(map(str, words))
            raise FirewalldRefused(errno.EIO, f"firewalld refuses {method} {shown}: {first}")
        return first
