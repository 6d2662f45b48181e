"""Commands that cannot tell what they have changed, as they are killed or find no socket."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from tests.support.reading import Reading, agrees
from watcher.feed.names import TOLD
from watcher.locks.lock import Lock
from watcher.locks.names import WRITERS

if TYPE_CHECKING:
    from tests.support.host import Host

KILLED: Final = """\
import os, signal, sys
from watcher.service.handover import Handover
Handover.deliver = lambda self: os.kill(os.getpid(), signal.SIGKILL)
from watcher.cli import main
sys.exit(main())
"""


def test_readers_get_the_state_after_a_command_that_was_killed(host: Host) -> None:
    host.service()
    host.attach("web")
    script = host.base / "killed.py"
    script.write_text(KILLED)
    with Reading(host.run_dir) as reading:
        command = host.watcher_command("publish", "web", "9000:80", script=script)
        killed = host.popen(command, env=host.watcher_env)
        assert killed.wait() == -signal.SIGKILL
        gone = host.run_dir / "gone"
        gone.touch()
        gone.unlink()  # else the service looks at run_dir some seconds later
        reading.until(lambda: reading.states == 2 and reading.picture.complete)
        assert agrees(host, reading.picture)
        assert reading.missed == [0]
        assert not reading.events


def test_a_command_says_where_nobody_hears_it(host: Host) -> None:
    """As beside a service of an older version, or one that cannot write to run_dir."""
    service = host.service()
    host.attach("web")
    with Lock(str(host.run_dir), WRITERS, patience=60) as lock, lock.locked():
        service.signal(signal.SIGSTOP)  # while it does not have the lock, which it would keep
    told = host.run_dir / TOLD
    told.unlink()
    done = host.watcher("publish", "web", "9000:80")
    service.signal(signal.SIGCONT)
    assert done.stderr == (
        f"watcher: the service is not told what this has changed, as nothing hears at {told};"
        " see its log, or restart it if it is of an older version\n"
    )
