"""Runs a trial in a child process, so that its changes to its namespaces end with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec

from handlers.kernel.nft import Nft, NftError
from watcher.checks.check import Finding, fail
from watcher.model.errors import WatcherError


def in_child(trial: Callable[[], list[Finding]], name: str) -> list[Finding]:
    """Run `trial` in a child process, and return its findings. Messages call it `name`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            found = _guarded(trial, name)
            os.write(writer, msgspec.json.encode(found))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        content = answer.read()
    _, status = os.waitpid(child, 0)
    try:
        return msgspec.json.decode(content, type=list[Finding])
    except msgspec.MsgspecError:
        how = f"signal {status}" if os.WIFSIGNALED(status) else "an error"
        return [fail(f"the trial ended by {how}", "see `dmesg`")]


def refused(nft: Nft, parts: Mapping[str, str]) -> str:
    """Those of `parts`, by name, whose rules nftables refuses."""
    return ", ".join(name for name, rules in parts.items() if not _has(nft, rules))


def _has(nft: Nft, rules: str) -> bool:
    try:
        nft.run(f"table inet trial {{\n{rules}\n}}\ndelete table inet trial")
    except NftError:
        return False
    return True


def _guarded(trial: Callable[[], list[Finding]], name: str) -> list[Finding]:
    try:
        return trial()
    except PermissionError as error:
        return [fail(f"{error.strerror} ({error.filename or name})", "run as root")]
    except (OSError, WatcherError) as error:
        text = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return [fail(text, "run a kernel that has it")]
