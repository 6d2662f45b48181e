"""Hosts with many published ports, a server behind one of them, and a client beyond the uplink.

::

    client 192.0.2.1 ──── 192.0.2.2 uplink · host · bridge ──── eth0 · server
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bench.contenders import cni, netavark, setting
from bench.contenders.contender import FIRST_PORT, Contender, name_of
from bench.contenders.process import output
from bench.native import Lines
from watcher.config import load
from watcher.containers import roots
from watcher.log.logger import make_log
from watcher.service import assemble

_INNER: Final = 80
_HOST: Final = "192.0.2.2"
_SERVER, _BEFORE, _BEHIND, _CLIENT = range(4)
"""The sandboxes: with the server, with the ports published before and after its own; the client."""


class Published(Contender):
    """The common part of all contenders that publish ports.

    Args:
        ports: how many are published; the one that is used was published amidst the others.
    """

    def __init__(self, base: Path, directory: Path, ports: int) -> None:
        super().__init__(base, directory)
        first, half = FIRST_PORT + 1, FIRST_PORT + 1 + (ports - 1) // 2
        for number in (_SERVER, _BEFORE, _BEHIND, _CLIENT):
            self.prepare(number)
        self._make_client()
        self.publish(range(first, half), range(half, FIRST_PORT + ports))
        served = f"--net=/proc/{self.pids[_SERVER]}/ns/net"
        load = str(base / "load")
        self._server = Lines("nsenter", served, load, "serve", str(_INNER))
        assert self._server.read() == "ready"
        client = f"--net=/proc/{self.pids[_CLIENT]}/ns/net"
        self._client = Lines("nsenter", client, load, "connect", _HOST, str(FIRST_PORT))

    def close(self) -> None:
        """End server and client too."""
        self._client.close()
        self._server.close()
        super().close()

    def publish(self, before: range, behind: range) -> None:
        """Publish `FIRST_PORT` of the server, and the other ports `before` and `behind` it."""
        raise NotImplementedError

    def connect(self, count: int) -> dict[str, float]:
        """Connections a second, and the seconds of one of them, over `count` of them."""
        words = self._client.ask(str(count)).split()
        every, median, p95, p99 = (int(word) * 1e-9 for word in words)
        return {"rate": count / every, "median": median, "p95": p95, "p99": p99}

    def _make_client(self) -> None:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        pid = self.pids[_CLIENT]
        inside = ("nsenter", f"--net=/proc/{pid}/ns/net", "ip")
        for words in (
            f"link add uplink type veth peer name uplink netns {pid}",
            "link set uplink up",
            f"addr add {_HOST}/24 dev uplink",
        ):
            output("ip", *words.split())
        for words in ("link set uplink up", "addr add 192.0.2.1/24 dev uplink"):
            output(*inside, *words.split())


class OfWatcher(Published):
    """This program: the others are ranges of two sandboxes; each port is an element of the map."""

    def publish(self, before: range, behind: range) -> None:
        """By its own parts in this process."""
        Path(setting.ROOT).mkdir(mode=0o700)
        config = load.load(setting.write_config(self.directory))
        with assemble.assembled(config, make_log("error", "json")) as (reconciler, _, _):
            for number, asked in (
                (_BEFORE, _same(before)),
                (_SERVER, f"{FIRST_PORT}:{_INNER}"),
                (_BEHIND, _same(behind)),
            ):
                if asked:
                    annotations = setting.annotations_of(number, ports=asked)
                    setting.add_to_root(number, self.pids[number], annotations)
                    container = roots.read(setting.ROOT, name_of(number))
                    assert container is not None
                    reconciler.admit(container)


class OfNetavark(Published):
    """netavark: the others are of two sandboxes, one set up before that of the server."""

    def publish(self, before: range, behind: range) -> None:
        """A call for each sandbox, as podman makes it."""
        netavark.CONFIG.mkdir()
        server = range(FIRST_PORT, FIRST_PORT + 1)
        for number, ports in ((_BEFORE, before), (_SERVER, server), (_BEHIND, behind)):
            if ports:
                netns = f"/proc/{self.pids[number]}/ns/net"
                netavark.call("setup", netns, netavark.request(number, ports, inner=_INNER))


class OfCni(Published):
    """CNI: the plugins publish one port; the others' rules are copies of what they wrote for it.

    The portmap plugin starts a process a rule, and each of these reads all rules that there are: so
    many ports would take it hours.
    """

    def publish(self, before: range, behind: range) -> None:
        """The server's by the plugins; then all rules anew, with the copies around its own."""
        netns = f"/proc/{self.pids[_SERVER]}/ns/net"
        result = cni.call("ADD", _SERVER, netns, cni.bridge(self.directory))
        cni.call("ADD", _SERVER, netns, cni.portmap([FIRST_PORT], _INNER), result)
        saved = output("iptables-save", "-t", "nat").splitlines()
        output("iptables-restore", stdin=_with_copies(saved, before, behind))


def _same(ports: range) -> str:
    """The annotation's value for `ports` that lead to the same port inside; empty for none."""
    spread = f"{ports[0]}-{ports[-1]}" if ports else ""
    return f"{spread}:{spread}" if ports else ""


def _with_copies(saved: list[str], before: range, behind: range) -> str:
    """The rules `saved` of the server's port, and as many for each of the others around them."""
    lines: list[str] = []
    for line in saved:
        chain = re.search(r"CNI-DN-\w+", line)
        if chain is None:
            lines.append(line)
            continue
        lines += [_copy(line, chain.group(), port) for port in before]
        lines.append(line)
        lines += [_copy(line, chain.group(), port) for port in behind]
    return "\n".join(lines) + "\n"


def _copy(line: str, chain: str, port: int) -> str:
    other = line.replace(chain, f"{chain[:-5]}{port}")
    other = re.sub(rf"(--dports?) {FIRST_PORT}\b", rf"\1 {port}", other)
    address = f"172.19.{100 + port // 250 % 150}.{port % 250 + 1}"
    return re.sub(r"--to-destination [\d.]+:", f"--to-destination {address}:", other)
