"""What administrators and attackers do to a host, for tests of what then stays as it is."""

from __future__ import annotations

from typing import Final

from tests.support import bundles
from tests.support.host import Container, Host, Place

MARK: Final = "2002875491"
"""The interface group of what the watcher makes; anybody can read it off a link."""

NOTHING: Final = "nothing to do\n"
"""What `watcher sync` prints where all is well."""


def powerful(spec: bundles.Spec) -> None:
    """A container may do what it likes to its own network."""
    for held in spec["process"]["capabilities"].values():
        held.append("CAP_NET_ADMIN")


def second_name(host: Host, name: str, container: Container) -> int:
    """An administrator's `ip netns attach`; the namespace that it leads to."""
    path = host.netns_dir / name
    host.command("sh", "-ec", f"touch {path}; mount --bind /proc/{container.pid}/ns/net {path}")
    return host.pin_inode(name)


def named_namespace(host: Host, name: str) -> Place:
    """An administrator's `ip netns add`."""
    path = host.netns_dir / name
    host.command("sh", "-ec", f"mkdir -p {path.parent}; touch {path}; unshare --net={path} true")
    return host.add_place(name, host.seen(path))


def lose_store(host: Host) -> None:
    """The file of the lease store is deleted."""
    host.command("sh", "-c", f"rm -f {host.state_dir}/leases.db*")


def forget(host: Host) -> None:
    """The lease store is lost with its directory."""
    host.command("sh", "-c", f"rm -rf {host.state_dir}")


def index(host: Host, name: str) -> int:
    link = host.here.link(name)
    assert link is not None
    return int(link["ifindex"])
