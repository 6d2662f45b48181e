"""The kernel settings that a container asks for (`io.watcher.sysctl`), in its own namespace.

A write below `/proc/sys/net` goes to the network namespace of the thread that opens the file
(`net_ctl_header_lookup` in `net/sysctl_net.c`).
"""

from __future__ import annotations

import errno
from typing import Final

from handlers.kernel import sysctl
from handlers.kernel.netlink import Netlink
from watcher.model import keys
from watcher.model.errors import InvalidRequest
from watcher.model.naming import sysctl_name
from watcher.model.request import Sysctl
from watcher.model.sandbox import Interface, Sandbox

_OF_THE_HOST: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that say nothing about the setting."""


def write(inside: Netlink, sandbox: Sandbox, interface: Interface) -> InvalidRequest | None:
    """Write what is due with a new `interface`: its own settings, and with the last one all others.

    Only until it is up: what follows makes it so, which sync makes up for after a kill. So nothing
    has to remember what was written, and what the container changes later stays. `inside` is a
    socket in the namespace, which this thread is in.

    Returns:
        Why one was refused; those after it are not written.

    Raises:
        OSError: the host is at one of its limits.
    """
    due = _due(sandbox, interface)
    if not due or inside.is_up(interface.name):
        return None
    for path, value in due:
        try:
            sysctl.put(path, value)
        except OSError as error:
            if error.errno in _OF_THE_HOST:
                raise
            return _refused(path, value, error)
    return None


def _due(sandbox: Sandbox, interface: Interface) -> list[Sysctl]:
    if interface.member is not None:  # connected later, when the container may have changed them
        return []
    asked = [setting for member in sandbox.members for setting in member.asked.sysctl]
    if not asked or interface is not sandbox.interfaces[-1]:
        return [setting for setting in asked if _interface_of(setting) == interface.name]
    others = {one.name for one in sandbox.interfaces[:-1]}
    return [setting for setting in asked if _interface_of(setting) not in others]


def _interface_of(setting: Sysctl) -> str:
    """The interface that a setting is of; empty if it is of none, or of all."""
    parts = setting[0].split("/")
    return parts[2] if len(parts) > 3 and parts[1] in ("conf", "neigh") else ""


def _refused(path: str, value: str, error: OSError) -> InvalidRequest:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        reason = "there is no such setting in its network namespace"
        remedy = "correct its name; /proc/sys/net in a container shows those that there are"
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = "it can only be read in the network namespace of a container"
        remedy = "leave it out, or set it on the host"
    else:
        reason = f"the kernel refuses the value: {error.strerror}"
        remedy = "correct the value, or leave the setting out"
    return InvalidRequest(keys.SYSCTL, f"{sysctl_name(path)} = {value}", reason, remedy)
