"""A container whose first thread has ended lives on: its other threads serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.host import BEYOND, UPLINK, Host
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.bundles import Spec

FIRST_THREAD_ENDS: Final = """
import ctypes, socket, threading

server = socket.create_server(("0.0.0.0", 80))

def serve():
    while True:
        connection, client = server.accept()
        connection.sendall(f"web {client[0]}\\n".encode())
        connection.close()

threading.Thread(target=serve).start()
ctypes.CDLL(None).syscall(60, 0)  # exit(2): this thread alone
"""


def python_bundle(host: Host, name: str, program: str, ports: str) -> None:
    """A bundle that runs this machine's own Python."""
    rootfs = host.base / "python"
    for directory in ("usr", "proc", "dev", "sys", "tmp"):
        (rootfs / directory).mkdir(parents=True)
    for link in ("bin", "lib", "lib64"):
        (rootfs / link).symlink_to(f"usr/{link}")

    def with_usr(spec: Spec) -> None:
        spec["root"]["path"] = str(rootfs)
        usr = {"destination": "/usr", "source": "/usr", "type": "bind", "options": ["rbind", "ro"]}
        spec["mounts"].append(usr)

    args = ("/usr/bin/python3", "-I", "-S", "-c", program)
    host.bundle(name, args, ports=ports, edit=with_usr)


def test_a_container_lives_as_long_as_any_of_its_threads(kept: Host) -> None:
    python_bundle(kept, "web", FIRST_THREAD_ENDS, "8080:80")
    kept.launch("create", "web")
    web = kept.attached("web")
    kept.start("web")
    stat = kept.seen(Path(f"/proc/{web.pid}/stat"))
    eventually(lambda: stat.read_text().rpartition(") ")[2].startswith("Z"))

    if kept.served:
        with (kept.root / "web/state.json").open("a"):
            pass
    kept.attach("other")  # whoever wants something asks who is dead
    assert kept.watcher("sync").stdout == "nothing to do\n"
    assert kept.ls()["web"]["status"] == "attached"
    assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)

    kept.here.run("ip", "link", "del", web.veth)  # it is put right like any other
    kept.settle()
    eventually(lambda: kept.beyond.reach(UPLINK, 8080, timeout=0.3) == Answer("web", BEYOND))

    kept.command("kill", "-9", str(web.pid))
    kept.gone(web)


def test_it_is_attached_by_a_thread_that_lives(host: Host) -> None:
    python_bundle(host, "web", FIRST_THREAD_ENDS, "8080:80")
    host.launch("run", "web", "--detach")
    stat = host.seen(Path(f"/proc/{host.pid('web')}/stat"))
    eventually(lambda: stat.read_text().rpartition(") ")[2].startswith("Z"))
    assert host.watcher("sync").stdout.startswith("attached web")
    assert host.ls()["web"]["status"] == "attached"
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    host.command("kill", "-9", str(host.pid("web")))
    host.empty()
