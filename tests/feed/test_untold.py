"""A command that is killed once it has changed something, and before it has told that."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from tests.support.reading import Reading, agrees

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
