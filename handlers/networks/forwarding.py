"""Turns on forwarding for the whole host, and notes what the kernel changes along with it.

Source: `Documentation/networking/ip-sysctl.rst` (`forwarding`, `accept_ra`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from handlers.kernel import sysctl
from handlers.settings import Sysctl
from watcher.model.cluster import DEVICE

FORWARDING: Final = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
"""The setting by IP version."""

_OURS: Final = ("netnsv", DEVICE)
"""How the names of links begin that no router is behind."""


def turn_on(settings: Sysctl, version: int) -> None:
    """Let the host forward packets of IP `version`; note every setting that this changes."""
    if version == 6:
        # With 1, a router ignores advertisements, and so would lose its own default route.
        for name in _accept_ra_names():
            if sysctl.get(name) == "1":
                settings.set(name, "2")
    for name, value in _swept(version).items():
        if sysctl.get(name) != value:
            settings.keep(name)
    settings.set(FORWARDING[version], "1")


def give_back(settings: Sysctl) -> list[str]:
    """Undo :func:`turn_on`; returns the settings that were restored."""
    names = [*_accept_ra_names(), *FORWARDING.values()]
    return settings.give_back(names + [name for v in FORWARDING for name in _swept(v)])


def _accept_ra_names() -> list[str]:
    others = [name for name in _conf(6) if name not in ("all", "default", "lo")]
    return [f"ipv6/conf/{name}/accept_ra" for name in others if not name.startswith(_OURS)]


def _swept(version: int) -> dict[str, str]:
    """The settings that the kernel overwrites when forwarding is turned off, and their values."""
    swept = {f"ipv{version}/conf/{name}/forwarding": "0" for name in _conf(version)}
    swept.pop(f"ipv{version}/conf/all/forwarding", None)
    if version == 4:
        swept["ipv4/conf/all/accept_redirects"] = "1"
    return swept


def _conf(version: int) -> list[str]:
    """The interfaces with settings of IP `version`, and `all` and `default`."""
    try:
        return sorted(path.name for path in Path(f"/proc/sys/net/ipv{version}/conf").iterdir())
    except FileNotFoundError:
        return []
