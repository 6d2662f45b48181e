"""The events socket under the unit: who may read it, and what the broker may do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Json
    from tests.support.host.booted import BootedHost

READ: Final = """
import json, socket
with socket.socket(socket.AF_UNIX) as reader:
    try:
        reader.connect("/run/watcher/events.sock")
    except PermissionError:
        print("[]")
    else:
        file = reader.makefile()
        lines = [json.loads(file.readline())]
        while lines[-1]["type"] != "ready":
            lines.append(json.loads(file.readline()))
        print(json.dumps(lines))
"""


def read(unit: BootedHost, *groups: str) -> list[Json]:
    """The state, as a user of these groups reads it; empty if that is not allowed."""
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--groups", ",".join(groups)]
    found: list[Json] = json.loads(unit.command(*user, "/usr/bin/python3", "-c", READ).stdout)
    return found


def status(unit: BootedHost, pid: str) -> dict[str, str]:
    """`/proc/PID/status` of the host."""
    lines = unit.command("cat", f"/proc/{pid}/status").stdout.splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_members_of_the_group_read_and_no_other_user(unit: BootedHost) -> None:
    unit.command("systemd-sysusers", str(REPOSITORY / "deploy/watcher.sysusers"))
    unit.unit.restart()
    unit.attach("web")
    number = unit.command("getent", "group", "watcher").stdout.split(":")[2]
    lines = read(unit, number)
    assert [line["id"] for line in lines if line["type"] == "sandbox"] == ["web"]
    assert [line["host_name"] for line in lines if line["type"] == "traffic"] == sorted(
        unit.veths()
    )
    assert read(unit, "nogroup") == []
    assert unit.unit.warnings() == []

    broker = unit.command("pgrep", "--full", "watcher.observe.broker").stdout.strip()
    now = status(unit, broker)
    capabilities = {key: value for key, value in now.items() if key.startswith("Cap")}
    for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(capabilities[kind], 16) == 0
    assert (now["NoNewPrivs"], now["Seccomp"]) == ("1", "2")
    unit.unit.restart()
    eventually(lambda: not unit.command("ls", "/proc").stdout.split().count(broker))
