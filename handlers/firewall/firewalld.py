"""firewalld: puts bridges in the zone `trusted`, over D-Bus.

jeepney is pure Python without dependencies and has a blocking interface. It is imported only if
there is a bus. Sources: firewalld.dbus(5), firewalld.zones(5), and the specification of D-Bus.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jeepney.io.blocking import DBusConnection

    from watcher.model.network import Network

ZONE: Final = "trusted"
"""The zone whose target is ACCEPT."""

_NAME: Final = "org.fedoraproject.FirewallD1"
_PATH: Final = "/org/fedoraproject/FirewallD1"
_SOCKET: Final = "/run/dbus/system_bus_socket"
_PATIENCE: Final = 3.0
"""Seconds to wait for an answer; a change of a zone takes far less."""


class FirewalldRefused(OSError):
    """firewalld refused a request, or did not answer."""


class Firewalld:
    """Bridges in the zone `trusted`, now and after firewalld's next start.

    A bridge that an administrator put into another zone stays there. Failures are
    :class:`FirewalldRefused`.
    """

    name = "firewalld"

    def links(self, network: Network) -> tuple[str, ...]:
        """The bridge."""
        return (network.bridge,)

    def runs(self) -> bool:
        """Whether firewalld is on the system bus; asking does not start it."""
        if "DBUS_SYSTEM_BUS_ADDRESS" not in os.environ and not Path(_SOCKET).exists():
            return False
        try:
            with _Bus.connected() as bus:
                return bus.has(_NAME)
        except OSError:  # the socket exists, but no process listens on it
            return False

    def lacks(self, bridge: str) -> bool:
        """Whether `bridge` is in no zone now, or in none after firewalld's next start."""
        with _Bus.connected() as bus:
            return any(bus.lacking(bridge))

    def admit(self, bridge: str) -> None:
        """Put `bridge` into the zone if it is in none."""
        with _Bus.connected() as bus:
            now, later = bus.lacking(bridge)
            if later:
                bus.call(bus.trusted(), "config.zone", "addInterface", "s", bridge)
            if now:
                bus.call(_PATH, "zone", "addInterface", "ss", ZONE, bridge)

    def dismiss(self, bridge: str) -> None:
        """Take `bridge` out of the zone if it is there, even if firewalld does not run."""
        if not self.runs():
            _dismiss_offline(bridge)
            return
        with _Bus.connected() as bus:
            if bus.zone_now(bridge) == ZONE:
                bus.call(_PATH, "zone", "removeInterface", "ss", ZONE, bridge)
            if bus.zone_later(bridge) == ZONE:
                bus.call(bus.trusted(), "config.zone", "removeInterface", "s", bridge)


class _Bus:
    """A connection to the system bus, with the calls of firewalld."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def connected(cls) -> Iterator[_Bus]:
        from jeepney.io.blocking import open_dbus_connection

        try:
            connection = open_dbus_connection("SYSTEM", auth_timeout=_PATIENCE)
        except (OSError, ValueError) as error:  # an AuthenticationError is a ValueError
            raise FirewalldRefused(errno.EIO, f"the system bus cannot be used: {error}") from error
        try:
            yield cls(connection)
        finally:
            connection.close()

    def has(self, name: str) -> bool:
        """Whether a process on the bus owns `name`."""
        from jeepney import DBusAddress

        bus = "org.freedesktop.DBus"
        address = DBusAddress("/org/freedesktop/DBus", bus, bus)
        return bool(self._ask(address, "NameHasOwner", "s", name))

    def zone_now(self, bridge: str) -> str:
        """The present zone of `bridge`; empty if none."""
        return str(self.call(_PATH, "zone", "getZoneOfInterface", "s", bridge))

    def zone_later(self, bridge: str) -> str:
        """Its zone in the permanent configuration."""
        return str(self.call(f"{_PATH}/config", "config", "getZoneOfInterface", "s", bridge))

    def lacking(self, bridge: str) -> tuple[bool, bool]:
        """Whether to put `bridge` into the zone now, and in the permanent configuration."""
        now, later = self.zone_now(bridge), self.zone_later(bridge)
        free = {now, later} <= {"", ZONE}
        return free and now == "", free and later == ""

    def trusted(self) -> str:
        """The path of the zone in the permanent configuration."""
        return str(self.call(f"{_PATH}/config", "config", "getZoneByName", "s", ZONE))

    def call(self, path: str, interface: str, method: str, signature: str, *words: str) -> object:
        """Call a method of firewalld; `FirewalldRefused` if it fails or does not answer."""
        from jeepney import DBusAddress

        address = DBusAddress(path, _NAME, f"{_NAME}.{interface}")
        return self._ask(address, method, signature, *words)

    def _ask(self, address: Any, method: str, signature: str, *words: str) -> object:
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
            raise FirewalldRefused(
                errno.EIO, f"firewalld refuses {method} {' '.join(words)}: {first}"
            )
        return first


def _dismiss_offline(bridge: str) -> None:
    """Take `bridge` out of the files of the permanent configuration."""
    words = ["firewall-offline-cmd", f"--zone={ZONE}", f"--remove-interface={bridge}"]
    try:
        subprocess.run(words, capture_output=True, check=False)
    except FileNotFoundError:  # firewalld and its zones were removed
        return
