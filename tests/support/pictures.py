"""A picture of all that the watcher has to do with on a host, to compare two hosts by.

Pids, addresses, MACs and namespaces differ from host to host, and are shown as whose they are.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from nftables import Nftables

from handlers.firewall.classids import classid
from tests.support import closed, kernel
from tests.support.host import Container, Host, Json
from tests.support.traffic import entered

type Picture = dict[str, list[str]]

_CLASSID: Final = re.compile(r"\b[0-9a-f]+:[0-9a-f]+\b")
_SYSCTLS: Final = (
    "ipv4/ip_forward",
    "ipv6/conf/all/forwarding",
    "ipv4/conf/netns0/route_localnet",
)
_ASKED: Final = ("ipv4/conf/eth0/arp_notify",)
"""What a container may ask for."""
_ROWS: Final = {
    "sandbox": "SELECT root, id, 'x-' || pid, netns FROM sandbox",
    "member": "SELECT member.root, member.id, 'x-' || member.pid, sandbox.id"
    " FROM member JOIN sandbox ON sandbox = key",
    "interface": "SELECT id, ordinal, network, name, host_name, mac"
    " FROM interface JOIN sandbox ON sandbox = key",
    "address": "SELECT network, address, address.id, sandbox.id, ordinal"
    " FROM address JOIN sandbox ON sandbox = key",
    "claim": "SELECT id, position, protocol, host_ip, host_port, port"
    " FROM claim JOIN member ON member = number",
    "failure": "SELECT root, id, reason, refused FROM failure",
    # How often lists went is no part of it, nor are the handles that are in another one's digest.
    "note": "SELECT name, CASE name WHEN 'arp rules' THEN value = '' ELSE value END FROM note"
    " WHERE name != 'lists'",
    "list": "SELECT document FROM list",
}


def take(host: Host, containers: Iterable[Container] = ()) -> Picture:
    """What is on `host`, and in the namespaces of live `containers`; no process is started."""
    alive = list(containers)
    picture: Picture = {
        "links and routes": kernel.view(host.here.netns),
        "rules of routing": [
            f"IPv{version}, number {number}: {rule}"
            for version in (4, 6)
            for number, rule in enumerate(closed.rules(host, version))
        ],
        "nft": _nft(host),
        "mounts": list(_mounts(host)),
        "sysctl": _sysctls(host.here.netns, _SYSCTLS),
        "pins": [f"{name} -> {_inode(host, name)}" for name in host.pins()],
        "copies": [path.name for path in (host.run_dir / "sandboxes").glob("*")],
    }
    for container in alive:
        netns = container.place.netns
        picture[f"inside -{container.pid}"] = kernel.view(netns) + _sysctls(netns, _ASKED)
    rows, words = _leases(host)
    picture |= rows
    for container in alive:
        words[f"-{container.pid}"] = f"-<pid of {container.id}>"
        words[str(container.place.inode)] = f"<namespace of {container.id}>"
        words[f"[{container.place.inode}]"] = words[str(container.place.inode)]
    ends = r"(?![\w:]|\.\d)"
    known = re.compile(
        r"(?<!\"prio\": )(?:(?<![\w.:])|(?=-))(?:" + "|".join(map(re.escape, words)) + ")" + ends
    )

    def named(line: str) -> str:
        return known.sub(lambda match: words[match[0]], line) if words else line

    return {named(name): sorted(named(line) for line in lines) for name, lines in picture.items()}


def _inode(host: Host, name: str) -> int | None:
    """The number of what a pin leads to; what is there may go at any time."""
    with contextlib.suppress(OSError):
        return host.pin_inode(name)
    return None


def _nft(host: Host) -> list[str]:
    with entered(host.here.netns):
        context = Nftables()
    context.set_json_output(True)
    context.set_stateless_output(True)
    status, output, error = context.cmd("list ruleset")
    assert status == 0, error
    lines = []
    for item in json.loads(output)["nftables"]:
        for kind, entry in item.items():
            shown = {key: value for key, value in entry.items() if key not in ("handle", "elem")}
            if kind != "metainfo":
                lines.append(f"{kind} {json.dumps(shown)}")
            if "dynamic" not in entry.get("flags", ()):  # else the kernel makes elements of packets
                lines += _elements(entry)
    return lines


def _elements(entry: Json) -> Iterator[str]:
    """Those of a set or map; the bounds of sandboxes have the keys of these in the lease store."""
    for element in entry.get("elem", ()):
        line = f"element of {entry['name']}: {element}"
        keyed = entry["name"].startswith(("bounds", "connections"))
        yield _CLASSID.sub("<key>", line) if keyed else line


def mountinfo(host: Host) -> str:
    """The mount table of `host`."""
    return host.seen(Path("/proc/1/mountinfo")).read_text()


def _mounts(host: Host) -> Iterator[str]:
    """What is mounted on the pins and their directory."""
    for line in mountinfo(host).splitlines():
        root, point = line.split()[3:5]
        if point.startswith(str(host.netns_dir)):
            shown = point.removeprefix(str(host.base))
            yield " ".join((root, shown, "shared" * ("shared:" in line)))


def _sysctls(netns: int, names: Iterable[str]) -> list[str]:
    with entered(netns):
        return [
            f"{name} = {path.read_text().strip()}"
            for name in names
            if (path := Path("/proc/sys/net", name)).exists()
        ]


def _leases(host: Host) -> tuple[Picture, dict[str, str]]:
    """The rows of `leases.db`, and what of them is shown as whose it is."""
    file = host.state_dir / "leases.db"
    if not file.exists():
        return {}, {}
    words: dict[str, str] = {}
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        rows = {
            f"leases: {table}": [" ".join(map(str, row)) for row in database.execute(query)]
            for table, query in _ROWS.items()
        }
        for query, what in (
            ("SELECT address, id FROM address WHERE sandbox IS NOT NULL", "address"),
            ("SELECT mac, id FROM interface JOIN sandbox ON sandbox = key", "mac"),
        ):
            for value, name in database.execute(query):
                words[value] = f"<{what} of {name}>"
        for number, document in database.execute("SELECT number, document FROM list"):
            words[classid(number)] = f"<list of {document}>"
    return rows, words


def difference(is_: Picture, should_be: Picture) -> str:
    """What differs between two pictures, a line each; empty if nothing does."""
    lines = []
    for name in sorted(is_.keys() | should_be.keys()):
        one, other = list(is_.get(name, [])), list(should_be.get(name, []))
        for line in should_be.get(name, []):
            if line in one:
                one.remove(line)
                other.remove(line)
        lines += [f"{name}: too much: {line}" for line in one]
        lines += [f"{name}: missing: {line}" for line in other]
    return "\n".join(lines)
