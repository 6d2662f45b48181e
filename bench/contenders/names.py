"""Hosts for names: sandboxes on a bridge of this program, and a name service on its gateway.

Bridge, addresses and rules are this program's on all hosts, so only who answers differs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import batched
from pathlib import Path
from typing import Final

from bench.contenders import netavark, setting
from bench.contenders.commands import Commands, run_time_of
from bench.contenders.contender import Contender, address_of, name_of
from bench.contenders.name_service import NameService
from bench.contenders.played import PlayedEvents
from bench.contenders.process import output
from bench.native import Lines

DOMAIN: Final = "watcher.internal"
GATEWAY: Final = "172.19.0.1"

_CLIENTS: Final = 64
"""Sandboxes with a client."""

_EACH: Final = 16
"""The most names of one container (`MAX_NAMES` in `watcher/containers/annotations.py`)."""

_FIRST_COMER: Final = 10_000
"""The number of the first container that comes and goes; it has an address that no other has."""

_PATIENCE: Final = 30.0
_LOOK: Final = 0.2
_CORE: Final = str(max(os.sched_getaffinity(0)))
"""The processor of the clients."""


class Names(Contender):
    """The common part: sandboxes, their names, and the clients.

    Args:
        names: how many there are to ask for.
    """

    named = False
    """Whether the network's names are this program's."""

    def __init__(self, base: Path, directory: Path, names: int) -> None:
        super().__init__(base, directory)
        self._opened = ExitStack()
        self._opened.callback(super().close)
        Path(setting.ROOT).mkdir(mode=0o700)
        more = [f"names = {json.dumps(self.named)}", "[names]", f'domain = "{DOMAIN}"']
        self.config = setting.write_config(directory, more=more)
        self.commands = Commands(directory, self.config)
        self._opened.callback(self.commands.close)
        each = -(-names // _CLIENTS) if names < _CLIENTS * _EACH else _EACH
        called = [*batched((f"n{number}" for number in range(names)), each, strict=False)]
        self.called: list[tuple[str, ...]] = [*called, *[()] * (_CLIENTS - len(called))]
        """What each sandbox is called."""
        for number, own in enumerate(self.called):
            self.prepare(number)
            asked = {"io.watcher.name": ",".join(own)} if own else {}
            setting.add_to_root(number, self.pids[number], asked)
        self.commands.run("sync")
        self.addresses = self._leases()
        asked_for = directory / "names"
        asked_for.write_text(
            "".join(f"{name}.{DOMAIN} {address}\n" for address, name in self.all_names())
        )
        self.server = self.serve()
        clients = [f"/proc/{self.pids[number]}/ns/net" for number in range(_CLIENTS)]
        program = ("taskset", "--cpu-list", _CORE, str(base / "questions"))
        self._clients = self._opened.enter_context(Lines(*program, str(asked_for), *clients))
        self._alone = self._opened.enter_context(Lines(*program, str(asked_for), clients[0]))

    def close(self) -> None:
        """End all."""
        self._opened.close()

    def serve(self) -> int:
        """Start the name service; its pid once it answers."""
        raise NotImplementedError

    def ask(self, verb: str, port: int, milliseconds: int) -> dict[str, float]:
        """Have the clients ask for so long, as `bench/questions.c` says; one alone if `calm`.

        Returns:
            rate: answers a second.
            lost: questions without an answer.
            median, p99, most: of the seconds that one took.
            pause: the longest time without any answer.
            work: seconds of processor time of the name service for one.
            load: the same of the clients.
        """
        before = run_time_of(self.server)
        clients = self._alone if verb == "calm" else self._clients
        words = clients.ask(verb, GATEWAY, str(port), str(milliseconds))
        used = run_time_of(self.server) - before
        count, lost, *times = map(int, words.split())
        all_, median, p99, most, pause, load = (value * 1e-9 for value in times)
        return {
            "rate": count / all_, "lost": lost, "median": median, "p99": p99, "most": most,
            "pause": pause, "work": used / count, "load": load / count,
        }  # fmt: skip

    def churn(self, count: int, a_second: int) -> dict[str, float]:
        """Ask, while `count` containers come, one after the other, and then go."""
        failed: list[BaseException] = []

        def change() -> None:
            try:
                begin = time.monotonic()
                for number, _ in enumerate(self._changes(count), 1):
                    time.sleep(max(0.0, begin + number / a_second - time.monotonic()))
            except BaseException as error:  # noqa: BLE001 (raised below)
                failed.append(error)

        self.begin_churn()
        thread = threading.Thread(target=change)
        thread.start()
        found = self.ask("ask", 53, 2 * count * 1000 // a_second)
        thread.join()
        if failed:
            raise failed[0]
        self._wait_until_idle()
        return found

    def begin_churn(self) -> None:
        """Get ready for that."""

    def come(self, number: int) -> None:
        """Tell the name service of container `number`."""
        raise NotImplementedError

    def go(self, number: int) -> None:
        """Tell it that this one has gone."""
        raise NotImplementedError

    def version(self) -> str:
        """What the name service calls its version."""
        raise NotImplementedError

    def all_names(self) -> Iterator[tuple[str, str]]:
        """Each name, behind its address."""
        for number, own in enumerate(self.called):
            for name in own:
                yield self.addresses[number], name

    def _changes(self, count: int) -> Iterator[None]:
        numbers = range(_FIRST_COMER, _FIRST_COMER + count)
        for change in (self.come, self.go):
            for number in numbers:
                yield change(number)

    def _wait_until_idle(self) -> None:
        """Wait until the name service has done what it was told."""
        while True:
            before = run_time_of(self.server)
            time.sleep(_LOOK)
            if run_time_of(self.server) - before < _LOOK / 50:
                return

    def _leases(self) -> list[str]:
        """The address of each sandbox."""
        shown = json.loads(watcher(self.config, "ls", "--json"))
        by_id = {of["id"]: of["address"][0] for of in shown}
        return [by_id[name_of(number)] for number in range(len(self.called))]


class OfWatcher(Names):
    """This program, with its service and its name service.

    Args:
        timed: whether the steps of the name service's loop are timed, which costs it a little.
    """

    named = True

    def __init__(self, base: Path, directory: Path, names: int, *, timed: bool = False) -> None:
        self._timed = timed
        self._events: PlayedEvents | None = None
        super().__init__(base, directory, names)

    def serve(self) -> int:
        """`watcher names`, as its unit starts it, but as root."""
        self.commands.start()
        self._service = NameService(self.directory, self.config, timed=self._timed)
        self._opened.enter_context(self._service)
        _wait_for_answer(self)
        return self._service.pid

    def churn(self, count: int, a_second: int) -> dict[str, float]:
        """As of all; and the longest `step` of the loop, and its processor time (`step work`)."""
        found = super().churn(count, a_second)
        if self._timed:
            found["step"], found["step work"] = self._service.longest_step()
        return found

    def begin_churn(self) -> None:
        """Have the events come from this process, because real containers need the processors."""
        if self._events is None:
            self._events = PlayedEvents()
            self._events.learn()
            self.commands.stop()
            self._opened.enter_context(self._events)
            self._events.serve()
            self._wait_until_idle()
        if self._timed:
            self._service.longest_step()

    def come(self, number: int) -> None:
        """An event."""
        assert self._events is not None
        self._events.attached(name_of(number), address_of(number))

    def go(self, number: int) -> None:
        """An event."""
        assert self._events is not None
        self._events.detached(name_of(number))

    def version(self) -> str:
        """The program's."""
        return watcher(self.config, "--version").split()[-1]


class _WithFile(Names):
    """A name service that reads a file, and reads it anew at a SIGHUP."""

    first = ""
    """The file's first line."""

    def __init__(self, base: Path, directory: Path, names: int) -> None:
        self._lines: dict[int, str] = {}
        super().__init__(base, directory, names)

    def line(self, number: int, address: str, own: Sequence[str]) -> str:
        """The file's line, or lines, of a container."""
        raise NotImplementedError

    def come(self, number: int) -> None:
        """A line at the end, and a SIGHUP."""
        self._lines[number] = self.line(number, address_of(number), ())
        with self.file.open("a") as file:
            file.write(self._lines[number])
        os.kill(self.server, signal.SIGHUP)

    def go(self, number: int) -> None:
        """The whole file without that line, and a SIGHUP."""
        del self._lines[number]
        self.write()
        os.kill(self.server, signal.SIGHUP)

    def write(self) -> None:
        """The whole file, in place of the one before."""
        new = self.directory / "new"
        new.write_text(self.first + "".join(self._lines.values()))
        new.rename(self.file)

    @property
    def file(self) -> Path:
        """What it reads."""
        raise NotImplementedError

    def _write_all(self) -> None:
        for number, own in enumerate(self.called):
            self._lines[number] = self.line(number, self.addresses[number], own)
        self.write()


class OfAardvark(_WithFile):
    """aardvark-dns, as netavark starts it: it reads a file for each network (its `config.md`)."""

    first = f"{GATEWAY}\n"

    @property
    def file(self) -> Path:
        """The network's, in a directory that has nothing but these, and the file with its pid."""
        return self.directory / "aardvark-dns" / "bench"

    def line(self, number: int, address: str, own: Sequence[str]) -> str:
        """The id, the addresses, and the names, of which the id is one."""
        return f"{name_of(number)} {address}  {','.join((*own, name_of(number)))}\n"

    def serve(self) -> int:
        """Its process returns once another one answers."""
        self.file.parent.mkdir()
        self._write_all()
        words = ("--config", str(self.file.parent), "--port", "53")
        output(_program("aardvark-dns"), *words, "--filter-search-domain", DOMAIN, "run")
        pid = int((self.file.parent / "aardvark.pid").read_text())
        self._opened.callback(os.kill, pid, signal.SIGTERM)
        _wait_for_answer(self)
        return pid

    def version(self) -> str:
        """By `--version`."""
        return output(_program("aardvark-dns"), "--version").split()[-1]


class OfDnsmasq(_WithFile):
    """dnsmasq with a file as of hosts(5)."""

    @property
    def file(self) -> Path:
        """What `--addn-hosts` names."""
        return self.directory / "hosts"

    def line(self, number: int, address: str, own: Sequence[str]) -> str:
        """The address, and the names, of which the id is one."""
        return f"{address} {' '.join((*own, name_of(number)))}\n"

    def serve(self) -> int:
        """On the gateway alone, and with nobody to ask."""
        self._write_all()
        self.directory.chmod(0o755)
        log = self._opened.enter_context((self.directory / "dnsmasq.log").open("wb"))
        process = subprocess.Popen(
            [
                _program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=",
                "--user=nobody", "--bind-interfaces", f"--listen-address={GATEWAY}",
                "--except-interface=lo", "--no-resolv", "--no-hosts", f"--addn-hosts={self.file}",
                "--expand-hosts", f"--domain={DOMAIN}", f"--local=/{DOMAIN}/",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        self._opened.callback(process.wait, _PATIENCE)
        self._opened.callback(process.terminate)
        _wait_for_answer(self)
        return process.pid

    def version(self) -> str:
        """By `--version`."""
        return output(_program("dnsmasq"), "--version").split()[2]


def watcher(config: Path, *words: str) -> str:
    """The output of a command of this program."""
    return output(sys.executable, "-m", "watcher", "--config", str(config), *words)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:{Path(netavark.PROGRAM).parent}")
    if found is None:
        raise RuntimeError(f"there is no program {name}; say `make packages-bench`")
    return found


def _wait_for_answer(host: Names) -> None:
    """Wait until the last of the names is known to a client of its own, which ends with that."""
    address, name = list(host.all_names())[-1]
    netns = f"/proc/{host.pids[0]}/ns/net"
    last = host.directory / "last"
    last.write_text(f"{name}.{DOMAIN} {address}\n")
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with Lines(str(host.programs / "questions"), str(last), netns) as client:
                if int(client.ask("ask", GATEWAY, "53", "1").split()[0]):
                    return
        except RuntimeError:  # it was another answer
            time.sleep(0.05)
        if time.monotonic() > deadline:
            raise RuntimeError("the name service does not answer")
