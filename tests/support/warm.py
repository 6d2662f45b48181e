"""`watcher`, started warm: a process that has imported the program forks for each command line.

It is the program itself, in a process of its own in the host's namespaces; only the third of a
second in which Python starts and imports is saved, which would be most of what the tests cost.
The service, and what is installed, are started cold.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.support.paths import REPOSITORY

_MAX_REQUEST: Final = 1 << 16


class Warm:
    """The process that forks, for whoever starts commands.

    It ends when its standard input is closed, with its maker at the latest.
    """

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                start_new_session=True,
            )

    def close(self) -> None:
        """End it."""
        self._requests.close()
        self._process.wait()

    def run(
        self, args: list[str], *, first: int, netns: Path, directory: Path, timeout: float
    ) -> tuple[int | None, str, str]:
        """Runs `watcher ARGS` in a host's namespaces, to its end.

        Args:
            args: the words behind `watcher`.
            first: a process of the host, whose mount and process namespaces are meant.
            netns: the file of the network namespace.
            directory: where to run it, as this process sees it.
            timeout: in seconds; then it is killed.

        Returns:
            The exit status as subprocess has it, `None` after a timeout; what it has written to
            standard output, and to standard error.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out, err = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdout", "stderr"))
        try:
            with ours:
                with theirs:
                    request = {
                        "args": args, "first": first, "netns": str(netns),
                        "directory": str(directory), "environment": dict(os.environ),
                    }  # fmt: skip
                    socket.send_fds(
                        self._requests, [json.dumps(request).encode()], [theirs.fileno(), out, err]
                    )
                ours.settimeout(timeout)
                try:
                    status: int | None = int(ours.recv(64))
                except TimeoutError:
                    status = None
                    ours.shutdown(socket.SHUT_WR)
                    ours.settimeout(None)
                    ours.recv(64)
            return status, _read(out), _read(err)
        finally:
            os.close(out)
            os.close(err)


@functools.cache
def warm() -> Warm:
    """What starts the commands of this process's hosts; it ends with this process."""
    return Warm()


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()


def _serve(requests: socket.socket) -> None:
    """Forks for one request after another, until there are no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are forked here
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 3)
        if not data:
            return
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(json.loads(data), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(request: dict[str, Any], answer: int, out: int, err: int) -> None:
    """Starts a command, tells of its end, and ends with it; kills it if nobody waits any more."""
    first = os.pidfd_open(request["first"])
    netns = os.open(request["netns"], os.O_RDONLY)
    directory = os.open(request["directory"], os.O_PATH)
    os.setns(first, os.CLONE_NEWNS | os.CLONE_NEWPID)
    os.setns(netns, os.CLONE_NEWNET)
    os.fchdir(directory)
    for descriptor in (first, netns, directory):
        os.close(descriptor)
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        _become(request, out, err)
    child = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.register(answer, select.POLLIN)
    if not any(descriptor == child for descriptor, _ in poll.poll()):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: dict[str, Any], out: int, err: int) -> None:
    """Is `watcher`, from now to its end."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((null, 0), (out, 1), (err, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["watcher", *request["args"]]
    main = importlib.import_module("watcher.cli").main
    status = 70
    try:
        main(request["args"])
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:  # noqa: BLE001 (it is not ours to go on with)
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def import_all() -> None:
    """Imports all of the program, so that no run has to."""
    for package in map(importlib.import_module, ("handlers", "watcher")):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


if __name__ == "__main__":
    import_all()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
