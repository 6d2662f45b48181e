"""A process of the host that takes a published port later: `ls`, `check` and the log say so.

The container keeps the port. What is said of the traffic that the process gets is tried.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.config.test_reload import again
from tests.support import traffic
from tests.support.host import UPLINK, UPLINK6, Host, Service
from tests.support.processes import end
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import HostMaker, Json

DUAL: Final = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
TAKEN: Final = "a published port is taken by a process of the host"
FREE: Final = "a published port is no longer taken by a process of the host"
MINUTE: Final = 60.0

_SERVER: Final = """
import socket, sys
kind, address, port, both = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
server = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
if family == socket.AF_INET6:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, both == "")
server.bind((address, int(port)))
if kind == "tcp":
    server.listen()
print("listens", flush=True)
while True:
    if kind == "tcp":
        stream, peer = server.accept()
        stream.sendall(f"host {peer[0]}\\n".encode())
        stream.close()
    else:
        _, peer = server.recvfrom(100)
        server.sendto(f"host {peer[0]}\\n".encode(), peer)
"""


def run(host: Host, script: str, *args: str) -> subprocess.Popen[str]:
    """A process of the host that has printed its first line."""
    process = host.popen([sys.executable, "-c", script, *args], stdout=subprocess.PIPE)
    host.on_close(lambda: end(process))
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline()
    return process


def take(
    host: Host, port: int, address: str = "0.0.0.0", kind: str = "tcp", *, both: bool = False
) -> subprocess.Popen[str]:
    """A server of the host on a port, which answers as `host`."""
    return run(host, _SERVER, kind, address, str(port), "both" if both else "")


def bound(host: Host, address: str, port: int, kind: int = STREAM) -> socket.socket:
    """A socket in the host's namespace, bound to a port if that is not 0."""
    made = traffic.make_socket(host.here.netns, traffic.family_of(address), kind)
    host.on_close(made.close)
    if port:
        made.bind((address, port))
    return made


def told(service: Service, event: str) -> list[Json]:
    return [entry for entry in service.log() if entry["event"] == event]


def look(service: Service, event: str, port: str) -> Json:
    """Has the service look again, as after a pause, until it has logged `event` of `port`."""

    def found() -> list[Json]:
        service.signal(signal.SIGCONT)
        return [entry for entry in told(service, event) if entry["port"] == port]

    return eventually(found, what=f"{event}: {port}")[0]


def check(host: Host) -> list[str]:
    """What `watcher check` says of published ports."""
    findings = json.loads(host.watcher("check", "--json", check=False).stdout)
    return [
        f"{finding['level']} {finding['what']}; {finding['remedy']}"
        for finding in findings
        if finding["check"] == "ports"
    ]


@pytest.mark.parametrize(
    ("config", "ports", "kind", "address", "both", "gets", "answers"),
    [
        ("", "8080:80", "tcp", "0.0.0.0", False, "nothing of what is sent there",
         {UPLINK: "web", "127.0.0.1": "web"}),
        ("", "8080:80", "tcp", "127.0.0.1", False, "nothing of what is sent there",
         {UPLINK: "web", "127.0.0.1": "web"}),
        ("", "8080:80", "tcp", "::", True, "only what comes by IPv6",
         {UPLINK: "web", "127.0.0.1": "web", UPLINK6: "host", "::1": "host"}),
        ("", "8080:80", "tcp", "::1", False, "all of it, because it is not forwarded by IPv6",
         {UPLINK: "web", "::1": "host"}),
        (DUAL, "8080:80", "tcp", "::", True, "nothing of what is sent there",
         {UPLINK: "web", "127.0.0.1": "web", UPLINK6: "web", "::1": "web"}),
        ("", f"{UPLINK}:8080:80", "tcp", "0.0.0.0", False,
         f"only what goes to other addresses than {UPLINK}", {UPLINK: "web", "127.0.0.1": "host"}),
        (DUAL, f"[{UPLINK6}]:8080:80", "tcp", "::", True,
         f"only what goes to other addresses than {UPLINK6}",
         {UPLINK6: "web", "::1": "host", UPLINK: "host"}),
        (DUAL, "0.0.0.0:8080:80", "tcp", "::", True, "only what comes by IPv6",
         {UPLINK: "web", UPLINK6: "host"}),
        ("", f"{UPLINK}:8080:80", "tcp", UPLINK, False, "nothing of what is sent there",
         {UPLINK: "web"}),
        ("", "8080:80/udp", "udp", "0.0.0.0", False, "only broadcasts and multicasts",
         {UPLINK: "web", "127.0.0.1": "web"}),
        ("", "8080:80/udp", "udp", UPLINK, False, "nothing of what is sent there",
         {UPLINK: "web"}),
        (DUAL, "8070-8090:70-90/udp", "udp", "::1", False, "nothing of what is sent there",
         {"::1": "web"}),
    ],
)  # fmt: skip
def test_it_is_said_everywhere_until_it_has_gone(
    make_host: HostMaker,
    config: str,
    ports: str,
    kind: str,
    address: str,
    both: bool,
    gets: str,
    answers: dict[str, str],
) -> None:
    host = make_host(config)
    # With it the kernel drops what comes back to ::1, as that crosses the bridge.
    host.command("sh", "-c", "echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables")
    service = host.service()
    host.attach("web", ports=ports).serve(tcp=(80,), udp=(80,))
    assert host.ls()["web"]["reason"] == ""
    assert check(host) == ["ok no process of the host listens on a published port; "]

    process = take(host, 8080, address, kind, both=both)
    for to, who in answers.items():
        place = host.here if to in ("127.0.0.1", "::1") else host.beyond
        answer = place.reach(to, 8080, "tcp" if kind == "tcp" else "udp")
        assert answer is not None
        assert answer.who == who, to
    row = host.ls()["web"]
    assert row["status"] == "attached"
    assert f"listens on {address} port 8080, and gets {gets};" in row["reason"]
    assert "io.watcher.ports" in row["reason"]
    assert "stop that process, or publish another port" in row["reason"]
    assert host.inspect("web")["reason"] == row["reason"]
    assert "REASON" in host.watcher("ls").stdout
    (found,) = check(host)
    assert found == f"warn {row['reason']}"
    single = ports.replace("8070-8090:70-90", "8080:80")
    single = single if "/" in single else f"{single}/tcp"
    entry = look(service, TAKEN, single)
    assert entry["container"] == "web"
    assert entry["level"] == "warning"
    assert gets in entry["reason"]
    assert "stop that process" in entry["remedy"]

    end(process)
    assert host.ls()["web"]["reason"] == ""
    entry = look(service, FREE, ports if "/" in ports else f"{ports}/tcp")
    assert entry["container"] == "web"
    assert len(told(service, TAKEN)) == len(told(service, FREE)) == 1


def test_broadcasts_reach_the_process(host: Host) -> None:
    host.service()
    host.attach("web", ports="8080:80/udp")
    process = bound(host, "0.0.0.0", 8080, DATAGRAM)
    process.settimeout(10)
    sender = traffic.make_socket(host.beyond.netns, socket.AF_INET, DATAGRAM)
    with sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(b"to all", ("192.0.2.255", 8080))
    assert process.recv(100) == b"to all"


def test_ls_names_the_process(host: Host) -> None:
    host.service()
    host.attach("web", ports="8080:80,8443:443")
    process = take(host, 8080)
    take(host, 8443)
    inner = host.command("pgrep", "-f", "tcp 0.0.0.0 8080").stdout.split()
    assert process.poll() is None
    reason = host.ls()["web"]["reason"]
    name = next(word for word in inner if f", pid {word})" in reason)
    assert f"({host.command('cat', f'/proc/{name}/comm').stdout.strip()}, pid {name})" in reason
    assert "(1 more published port is taken)" in reason


def test_a_start_and_a_sync_say_it(host: Host) -> None:
    host.attach("web", ports="8080:80")
    take(host, 8080)
    done = host.watcher("sync")
    assert 'container "web"' in done.stderr
    assert "listens on 0.0.0.0 port 8080" in done.stderr
    assert "nothing to do" in done.stdout
    service = host.service()
    assert service.logged(TAKEN, "web")
    assert host.status("web") == "attached"


def test_a_running_service_says_it_within_a_minute(host: Host) -> None:
    service = host.service()
    host.attach("web", ports="8080:80")
    process = take(host, 8080)
    eventually(lambda: told(service, TAKEN), MINUTE, what="the log")
    end(process)
    look(service, FREE, "8080:80/tcp")


def test_of_a_container_that_has_gone_nothing_more_is_said(host: Host) -> None:
    service = host.service()
    web = host.attach("web", ports="8080:80")
    process = take(host, 8080)
    look(service, TAKEN, "8080:80/tcp")
    host.delete("web")
    end(process)
    host.gone(web)
    host.attach("db", ports="8082:80")
    take(host, 8082)
    look(service, TAKEN, "8082:80/tcp")
    assert told(service, FREE) == []


def test_what_is_in_nobodys_way_is_not_said(host: Host) -> None:
    service = host.service()
    web = host.attach("web", ports=f"{UPLINK}:8080:80,8081:80,8082:80/udp,8083:80/udp,8089:80")
    # On another address, on a port that is not published, and of another protocol.
    for address, port, kind in (
        ("127.0.0.1", 8080, STREAM), ("::1", 8080, STREAM), ("0.0.0.0", 8099, STREAM),
        ("0.0.0.0", 8081, DATAGRAM),
    ):  # fmt: skip
        listener = bound(host, address, port, kind)
        if kind == STREAM:
            listener.listen()
    # In the container.
    web.serve(tcp=(80, 8081), udp=(80, 8082))
    # Connected: a TCP connection from a published port, and a query to a server.
    server = host.beyond.serve(tcp=(7,), udp=(7,))
    outgoing = bound(host, "0.0.0.0", 8081)
    outgoing.connect(("192.0.2.1", 7))
    query = bound(host, "0.0.0.0", 8082, DATAGRAM)
    query.connect(("192.0.2.1", 7))
    # A query whose port the kernel has chosen.
    host.command("sh", "-c", "echo 8083 8083 > /proc/sys/net/ipv4/ip_local_port_range")
    chosen = bound(host, "0.0.0.0", 0, DATAGRAM)
    chosen.sendto(b"?", ("192.0.2.1", 7))
    assert chosen.getsockname()[1] == 8083

    assert host.ls()["web"]["reason"] == ""
    assert check(host) == ["ok no process of the host listens on a published port; "]
    take(host, 8089)
    look(service, TAKEN, "8089:80/tcp")
    assert len(told(service, TAKEN)) == 1
    server.close()


def test_a_query_from_a_port_of_its_own_choice_is_not_logged(host: Host) -> None:
    """As some resolvers ask: each query from another socket that is bound, but not connected."""
    service = host.service("--log-level", "debug")
    host.attach("web", ports="8080:80/udp,8089:80")
    take(host, 8089)
    for _ in range(10):
        with bound(host, "0.0.0.0", 8080, DATAGRAM):
            synced = len(told(service, "synced"))
            service.signal(signal.SIGCONT)
            eventually(lambda synced=synced: len(told(service, "synced")) > synced)  # type: ignore[misc]
            again(service)  # it has looked when it comes to that
    look(service, TAKEN, "8089:80/tcp")
    assert len(told(service, TAKEN)) == 1


def test_without_published_ports_nothing_is_said(host: Host) -> None:
    service = host.service()
    host.attach("web")
    take(host, 8080)
    service.signal(signal.SIGCONT)
    assert check(host) == []
    assert host.ls()["web"]["reason"] == ""
    assert told(service, TAKEN) == []


_FLAPS: Final = """
import socket
print("flaps", flush=True)
while True:
    for _ in range(50):
        for port in range(8000, 8200):
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("0.0.0.0", port))
                listener.listen()
"""


def test_one_who_opens_and_closes_ports_does_not_fill_the_log(host: Host) -> None:
    service = host.service()
    host.attach("web", ports=",".join(f"{port}:{port - 7000}" for port in range(8000, 8400, 2)))
    run(host, _FLAPS)
    looks = 300
    for _ in range(looks):
        service.signal(signal.SIGCONT)
        host.command("true")
    other = host.attach("other", ports="9000:80")
    other.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 9000) is not None
    assert len(told(service, TAKEN)) + len(told(service, FREE)) <= 32 + looks


_MANY: Final = """
import resource, signal, socket
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
for number in range(5000):
    listener = socket.socket()
    listener.bind((f"127.1.{number // 250}.{number % 250 + 1}", 8080))
    listener.listen(1)
    kept.append(listener)
print("listens", flush=True)
signal.pause()
"""


def test_very_many_sockets_are_read_up_to_a_limit_and_that_is_said(host: Host) -> None:
    service = host.service()
    host.attach("web", ports="8080:80,8081:80").serve(tcp=(80,))
    run(host, _MANY)
    look(service, TAKEN, "8080:80/tcp")
    for _ in range(5):
        service.signal(signal.SIGCONT)
        host.watcher("ls")
    unseen = "cannot tell whether published ports are taken"
    assert len(told(service, unseen)) == 1
    assert len(told(service, TAKEN)) == 1
    assert "port 8080" in host.ls()["web"]["reason"]
    answer = host.beyond.reach(UPLINK, 8080)
    assert answer is not None
    assert answer.who == "web"
