"""What a container may do to mislead, delay or exhaust whoever checks it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support import traffic
from tests.support.bundles import FOREVER
from tests.support.checked import checked, with_resolv_conf
from tests.support.hangs import HangingBundle
from tests.support.host import BEYOND
from tests.support.processes import end
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from tests.support.bundles import Spec
    from tests.support.host import Host

MANY: Final = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
sockets = [socket.socket() for _ in range(9000)]
for port, one in enumerate(sockets, 10000):
    one.bind(("", port))
    one.listen(1)
print("ready", flush=True)
sys.stdin.read()
"""


def told(host: Host, name: str) -> str:
    return "\n".join(line["what"] for line in checked(host, name))


def test_a_resolv_conf_that_never_answers(host: Host) -> None:
    hanging = HangingBundle(host, "other", list(FOREVER), count=0)
    conf = hanging.directory / "config.json"
    host.attach("web", edit=with_resolv_conf(conf))
    text = told(host, "web")
    assert "its /etc/resolv.conf cannot be read: nothing has answered" in text
    assert "its gateway 172.19.0.1 on eth0 answers" in text
    hanging.answer()


def test_very_many_sockets(host: Host) -> None:
    web = host.attach("web", ports="10000-19999:10000-19999,80:80")
    process = host.popen(
        [sys.executable, "-c", MANY],
        netns=web.place, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    host.on_close(lambda: end(process))
    assert process.stdout.readline() == "ready\n"
    text = told(host, "web")
    assert "so many sockets listen inside that not all were compared" in text
    assert "80:80/tcp: nothing listens on tcp port 80 inside, but programs listen on" in text
    process.stdin.close()
    process.stdout.close()


def test_a_process_that_has_left_its_namespace(host: Host) -> None:
    """What is looked at is the namespace that got the network, and never the one of its making."""

    def as_nobody(spec: Spec) -> None:
        spec["process"]["user"] = {"uid": 1000, "gid": 1000}
        spec["process"]["capabilities"] = {}

    host.service()
    program = ("busybox", "unshare", "-U", "-r", "-n", *FOREVER)
    web = host.create("web", program, ports="8080:80", edit=as_nobody)
    web.serve(tcp=(80,))
    before = web.place.inode
    host.start("web")
    here = host.seen(Path(f"/proc/{web.pid}/ns/net"))
    eventually(lambda: here.stat().st_ino != before)
    text = told(host, "web")
    assert "its first process has left the network namespace" in text
    assert "eth0 is up and has 172.19.0.2/16" in text
    assert "8080:80/tcp: a program listens on 0.0.0.0, :: port 80" in text


def test_a_container_that_ends_meanwhile(host: Host) -> None:
    """Nobody is told that nothing listens in what has gone."""
    conf = host.base / "resolv.conf"
    conf.write_text(f"nameserver {BEYOND}\n")
    host.attach("web", ports="8080:80", edit=with_resolv_conf(conf))
    with traffic.make_socket(host.beyond.netns, socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((BEYOND, 53))
        silent.settimeout(PATIENCE)
        checking = host.popen(
            host.watcher_command("check", "web"),
            env=host.watcher_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        silent.recv(512)
        host.delete("web")
        told, error = checking.communicate()
    assert (checking.returncode, told) == (1, "")
    assert error == 'watcher: container "web" has ended; start it again\n'
