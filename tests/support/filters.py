"""What `tc` shows of a link's filters, and filters of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.support.host import Host

INGRESS: Final = "ffff:"


def shown(host: Host, link: str) -> str:
    """What is asked of each frame that comes by a link; empty if nothing is."""
    text = host.command("tc", "filter", "show", "dev", link, "ingress").stdout
    # Which of these words it has depends on what it is attached to, `ingress` or `clsact`.
    return text.replace(f"filter parent {INGRESS} ", "filter ").replace(
        "filter ingress ", "filter "
    )


def has_ingress(host: Host, link: str) -> bool:
    """Whether a link has what filters are attached to."""
    return INGRESS in host.command("tc", "qdisc", "show", "dev", link).stdout


def redirect(host: Host, link: str, to: str) -> None:
    """Somebody shapes what comes by a link: a later filter hands all of it to another link."""
    match = f"prio 2 protocol all u32 match u32 0 0 action mirred egress redirect dev {to}"
    host.command(*f"tc filter add dev {link} parent {INGRESS} {match}".split())
