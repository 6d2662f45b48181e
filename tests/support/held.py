"""A runc under way, which the gate may hold."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Literal

from tests.support.host import Host

type Verb = Literal["run", "create"]


def own_mount(host: Host, path: Path) -> Path:
    """Makes a directory a mount of its own, as the gate needs a root to be."""
    path.mkdir(mode=0o700, exist_ok=True)
    host.command("mount", "--bind", str(path), str(path))
    return path


@contextmanager
def runc(
    host: Host,
    verb: Verb,
    name: str,
    *options: str,
    env: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> Iterator[Popen[str]]:
    """`runc run` or `runc create` of a bundle that is there, under way, started by `prefix`."""
    bundle = host.bundles / name
    words = [*prefix, "runc", "--root", str(host.root), verb, *options, name]
    with (bundle / "output").open("w") as out, (bundle / "errors").open("w") as err:
        process = host.popen(words, directory=bundle, env=env, stdout=out, stderr=err)
        with process:
            try:
                yield process
            except BaseException:  # it may be held: nobody should wait for it
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise


def is_held(host: Host, name: str) -> bool:
    """Whether runc waits in the open of its last save of `state.json`."""
    directory = host.root / name
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return "exec.fifo" in names and any(name.startswith("state-") for name in names)
