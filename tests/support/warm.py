"""`watcher`, started warm: a process that has imported the program forks for each command line.

It is the program itself, in a process of its own in the host's namespaces; only the third of a
second in which Python starts and imports is saved, which would be most of what the tests cost.
What is installed, a release, and the services of `tests/service` are started cold.
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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually

_MAX_REQUEST: Final = 1 << 16


@dataclass(frozen=True)
class Where:
    """A host, for who starts something there.

    Attributes:
        first: a process of it, whose mount and process namespaces are meant.
        netns: the file of the network namespace.
        directory: where to run it, as this process sees it.
    """

    first: int
    netns: Path
    directory: Path


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

    def start(
        self, args: list[str], where: Where, *, environment: Mapping[str, str], out: int, err: int
    ) -> Started:
        """Starts `watcher ARGS` in a host's namespaces; it ends with this process.

        Args:
            args: the words behind `watcher`.
            where: the host.
            environment: all of its environment.
            out, err: the descriptors that are its standard output and error.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {
            "args": args, "first": where.first, "netns": str(where.netns),
            "directory": str(where.directory), "environment": dict(environment),
        }  # fmt: skip
        with theirs:
            socket.send_fds(
                self._requests, [json.dumps(request).encode()], [theirs.fileno(), out, err]
            )
        return Started(ours)

    def run(self, args: list[str], where: Where, *, timeout: float) -> tuple[int | None, str, str]:
        """Runs `watcher ARGS` to its end, as :meth:`start` starts it.

        Args:
            args, where: as there.
            timeout: in seconds; then it is killed.

        Returns:
            The exit status as subprocess has it, `None` after a timeout; what it has written to
            standard output, and to standard error.
        """
        out, err = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdout", "stderr"))
        try:
            command = self.start(args, where, environment=os.environ, out=out, err=err)
            try:
                status: int | None = command.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
                command.end()
            return status, _read(out), _read(err)
        finally:
            os.close(out)
            os.close(err)


class Started:
    """A `watcher` that runs, or has ended.

    Attributes:
        pid: its pid, as this process sees it.
    """

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers
        self._status: int | None = None
        try:
            self.pid = int(answers.recv(64))
        except BaseException:
            answers.close()
            raise

    def poll(self) -> int | None:
        """How it has ended, if it has."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; its exit status, as subprocess has it.

        Raises:
            subprocess.TimeoutExpired: it runs after `timeout` seconds.
        """
        if self._status is None:
            self._answers.settimeout(timeout)
            try:
                self._status = int(self._answers.recv(64))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("watcher", timeout or 0) from None
            self._answers.close()
        return self._status

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; with SIGSTOP, waits until all of its threads have stopped."""
        os.kill(self.pid, number)
        if number == signal.SIGSTOP:
            try:
                eventually(self._is_stopped, timeout=1)
            except AssertionError:  # one waits in open(2) for the gate, which has stopped before it
                os.kill(self.pid, signal.SIGCONT)
                eventually(lambda: "D" not in self._states())
                os.kill(self.pid, signal.SIGSTOP)
                eventually(self._is_stopped, what="the stop of all threads")

    def _is_stopped(self) -> bool:
        return set(self._states()) == {"T"}

    def _states(self) -> str:
        """A letter for each thread (proc_pid_stat(5))."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return "".join((thread / "stat").read_text().rpartition(") ")[2][0] for thread in threads)

    def end(self) -> None:
        """Kills it, if it runs, and waits for its end."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended, and its status is to come
                os.kill(self.pid, signal.SIGKILL)
            self.wait()


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
    os.close(out)
    os.close(err)
    os.write(answer, str(pid).encode())
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
