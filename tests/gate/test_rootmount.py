"""Roots as mounts of their own: made, found again, taken back, and never anybody else's."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import GATE_OFF, Host

_CALL = """
import json, sys
import msgspec
from handlers import root_mounts
from handlers.kernel import mounts
from watcher.model.errors import WatcherError
function, path = sys.argv[1:]
try:
    result = eval(function)(path)
    if function == "root_mounts.hold":
        result = result.made
except (OSError, WatcherError) as error:
    result = str(error)
print(json.dumps(msgspec.structs.asdict(result) if function == "mounts.mount_of" else result))
"""


def call(host: Host, function: str, path: Path) -> Any:
    """What `function` of `handlers.roots` or `handlers.kernel.mounts` does on a host."""
    output = host.command(sys.executable, "-c", _CALL, function, str(path), env=host.watcher_env)
    return json.loads(output.stdout)


def hold(host: Host, path: Path) -> Any:
    return call(host, "root_mounts.hold", path)


def take_back(host: Host, path: Path) -> Any:
    return call(host, "root_mounts.take_back", path)


def mounted(host: Host, path: Path) -> list[str]:
    """The mount points at and below `path`, one for each mount."""
    lines = host.command("cat", "/proc/self/mountinfo").stdout.splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    return [point for point in points if f"{point}/".startswith(f"{path}/")]


def test_a_root_becomes_a_private_mount_of_itself(host: Host) -> None:
    host.root.mkdir()
    (host.root / "web").mkdir()

    assert hold(host, host.root) is True
    assert mounted(host, host.root) == [str(host.root)]
    mount = call(host, "mounts.mount_of", host.root)
    assert (mount["point"], mount["propagation"]) == (str(host.root), [])
    assert host.command("ls", str(host.root)).stdout == "web\n"

    assert take_back(host, host.root) is True
    assert mounted(host, host.root) == []
    assert (host.root / "web").is_dir()


def test_a_root_that_is_not_there_is_made_as_engines_make_it_whatever_the_umask(host: Host) -> None:
    ours = host.base / "new" / "ours"
    code = f"import os; os.umask(0o077); {_CALL}"
    words = (sys.executable, "-c", code, "root_mounts.hold", str(ours))
    assert host.command(*words, env=host.watcher_env).stdout == "true\n"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (ours.parent, ours)] == [0o711, 0o711]


def test_nothing_is_made_below_run_user(host: Host) -> None:
    """Who logs in later has a session manager that makes it."""
    host.command("mkdir", "/run/user")
    assert "is not there yet" in hold(host, Path("/run/user/1000/runc"))
    assert host.command("ls", "/run/user").stdout == ""


def test_it_is_found_again_by_another_process_and_never_stacked(host: Host) -> None:
    assert [hold(host, host.root) for _ in range(3)] == [True, False, False]
    assert mounted(host, host.root) == [str(host.root)]

    assert [take_back(host, host.root) for _ in range(3)] == [True, False, False]
    assert mounted(host, host.root) == []


def test_it_is_found_behind_a_link(host: Host) -> None:
    link = host.base / "link"
    link.symlink_to("runc")
    host.root.mkdir()

    assert hold(host, link) is True
    assert hold(host, host.root) is False
    assert mounted(host, host.root) == [str(host.root)]
    assert take_back(host, link) is True


def test_its_name_may_have_any_character(host: Host) -> None:
    path = host.base / "a b\\040\tc\nd"

    assert [hold(host, path), hold(host, path)] == [True, False]
    assert [take_back(host, path), take_back(host, path)] == [True, False]


@pytest.mark.parametrize("parent", ["private", "shared"])
def test_it_is_private_wherever_it_is(host: Host, parent: str) -> None:
    host.root.mkdir()
    host.command("mount", "-t", "tmpfs", "tmpfs", str(host.base / "sys"))
    host.command("mount", f"--make-{parent}", str(host.base / "sys"))
    path = host.base / "sys" / "runc"

    assert hold(host, path) is True
    assert call(host, "mounts.mount_of", path)["propagation"] == []
    assert [hold(host, path), take_back(host, path), take_back(host, path)] == [False, True, False]


@pytest.mark.parametrize("how", ["tmpfs", "another directory", "shared"])
def test_a_mount_of_somebody_else_is_used_and_stays(host: Host, how: str) -> None:
    host.root.mkdir()
    other = host.base / "other"
    other.mkdir()
    if how == "tmpfs":
        host.command("mount", "-t", "tmpfs", "tmpfs", str(host.root))
    elif how == "another directory":
        host.command("mount", "--bind", str(other), str(host.root))
    else:  # as on a machine whose mounts are shared, systemd's default
        host.command("mount", "--bind", str(host.root), str(host.root))
        host.command("mount", "--make-shared", str(host.root))

    assert hold(host, host.root) is False
    assert take_back(host, host.root) is False
    assert mounted(host, host.root) == [str(host.root)]


def test_what_is_mounted_upon_it_is_not_taken_with_it(host: Host) -> None:
    """By its descriptor, which the service has, it could be unmounted from below that."""
    other = host.base / "other"
    other.mkdir()
    (other / "there").touch()
    code = """
import subprocess, sys
from handlers import root_mounts
held = root_mounts.hold(sys.argv[1])
subprocess.run(["mount", "--bind", sys.argv[2], sys.argv[1]], check=True)
root_mounts.release(held)
"""
    host.root.mkdir()
    words = (sys.executable, "-c", code, str(host.root), str(other))
    host.command(*words, env=host.watcher_env)
    assert mounted(host, host.root) == [str(host.root)] * 2
    assert host.command("ls", str(host.root)).stdout == "there\n"


def test_what_is_mounted_below_a_root_is_not_hidden(host: Host) -> None:
    (host.root / "below").mkdir(parents=True)
    host.command("mount", "-t", "tmpfs", "tmpfs", str(host.root / "below"))

    assert "is mounted below it" in hold(host, host.root)
    assert mounted(host, host.root) == [str(host.root / "below")]


def test_one_that_is_in_use_is_taken_back_all_the_same(host: Host) -> None:
    hold(host, host.root)
    (host.root / "file").write_text("still here\n")
    script = f"exec <{host.root}/file; echo open; read -r _ <{host.base}/end; cat"
    host.command("mkfifo", str(host.base / "end"))
    with host.popen(["sh", "-c", script], stdout=-1) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "open\n"
        assert take_back(host, host.root) is True
        assert mounted(host, host.root) == []
        (host.base / "end").write_text("\n")
        assert user.stdout.read() == "still here\n"


def test_a_root_that_was_removed_and_made_again_is_held_again(host: Host) -> None:
    hold(host, host.root)
    host.root.rmdir()  # from another mount namespace; in its own it is busy
    host.root.mkdir()

    assert mounted(host, host.root) == []
    assert hold(host, host.root) is True


def test_a_root_that_is_a_file_is_an_error(host: Host) -> None:
    host.root.write_text("")

    assert "Not a directory" in hold(host, host.root)
    assert take_back(host, host.root) is False
    assert take_back(host, host.base / "nowhere") is False


def test_what_a_killed_service_has_left_is_taken_back_by_sync(host: Host) -> None:
    service = host.service()
    host.attach("web")
    service.kill9()
    assert mounted(host, host.root) == [str(host.root)]

    line = f"unmounted {host.root}: the service that held runc there has ended\n"
    assert host.watcher("sync", "--dry-run").stdout == line
    assert mounted(host, host.root) == [str(host.root)]
    assert host.watcher("sync").stdout == line
    assert mounted(host, host.root) == []
    assert host.watcher("sync").stdout == "nothing to do\n"
    host.attached("web")


def test_without_descriptors_none_is_taken_for_somebody_elses(host: Host) -> None:
    """The first that has enough of them to succeed takes it back."""
    hold(host, host.root)
    function = "root_mounts.take_back"
    for more in range(16):
        free = "import os, resource; free = os.dup(0); os.close(free)"
        limit = f"{free}; resource.setrlimit(resource.RLIMIT_NOFILE, (free + {more},) * 2)"
        code = _CALL.replace("try:\n", f"{limit}\ntry:\n")
        words = (sys.executable, "-c", code, function, str(host.root))
        done = host.command(*words, env=host.watcher_env).stdout
        if done == "true\n":
            break
        assert "Too many open files" in done
    assert more > 0
    assert mounted(host, host.root) == []


def test_what_a_killed_service_has_left_is_taken_back_by_one_without_a_gate(host: Host) -> None:
    host.service().kill9()
    host.configure(GATE_OFF)
    host.service()
    assert mounted(host, host.root) == []


def test_sync_leaves_the_roots_of_a_service_alone_also_while_it_starts(host: Host) -> None:
    script = 'while [ ! -e "$0" ]; do "$@" >/dev/null || exit; done'
    end = host.base / "end"
    sync = host.watcher_command("sync")
    with host.popen(["sh", "-c", script, str(end), *sync], env=host.watcher_env) as syncs:
        for _ in range(5):
            service = host.service()
            assert mounted(host, host.root) == [str(host.root)]
            service.kill9()
        service = host.service()
        end.touch()
        assert syncs.wait() == 0
    assert mounted(host, host.root) == [str(host.root)]
    assert host.watcher("sync").stdout == "nothing to do\n"
    service.stop()
    assert mounted(host, host.root) == []
