"""Checks whether the gate can hold runc, and says what is lost if it cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from handlers import root_mounts
from handlers.kernel import rootpath
from handlers.kernel.fanotify import FanotifyGroup
from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.checks.trial import in_child
from watcher.containers.present import present
from watcher.model.errors import WatcherError, message_of, quoted
from watcher.reconcile.movable import why_none

if TYPE_CHECKING:
    from watcher.config.settings import Config

LOST: Final = (
    "a container's first instructions may run before it has its network, and a request that cannot"
    " be met does not stop it from starting"
)

REMEDY: Final = "see what stands at that path, or set another"


def findings(subject: Subject) -> Iterator[Finding]:
    """One line for the gate as a whole, and one for each root that it cannot hold."""
    config = subject.config
    mode = config.gate.mode
    if mode == "off":
        yield warn(f'mode = "off" in [gate]: {LOST}', 'set mode = "auto", unless that is meant')
        return
    tell = fail if mode == "required" else warn
    error = _kernel_error()
    if error:
        yield tell(
            f"the kernel has no gate for this process: {error}; {LOST}",
            "give it CAP_SYS_ADMIN outside of any user namespace, and a kernel with"
            " CONFIG_FANOTIFY_ACCESS_PERMISSIONS",
        )
        return
    wrong = [tell(f"{why}; {LOST}", remedy) for why, remedy in _unheld(config)]
    yield from wrong or [ok("runc can be held until a container has its network")]
    yield from _held(config)
    yield _movable(config)


def _movable(config: Config) -> Finding:
    """Whether a held container can be moved into the sandbox that it shares."""
    why = why_none(config.gate)
    if not why:
        return ok("a held container can be moved into the sandbox that io.watcher.share names")
    if not config.gate.share:
        return ok(f"{why}: io.watcher.share needs the path that `watcher bundle --share` writes")
    return warn(f"{why}; io.watcher.share alone is refused", "use `watcher bundle DIR --share ID`")


def _kernel_error() -> str:
    """Why the kernel refuses this process a gate; empty if it does not.

    The trial marks a whole mount, because a kernel may have fanotify but no permission events. The
    mount is in the child's own mount namespace, so the mark affects only the child.
    """

    def trial() -> list[Finding]:
        os.unshare(os.CLONE_NEWNS)
        with FanotifyGroup() as group:
            group.mark("/")  # open nothing below it until the group closes: nothing would answer
        return []

    return next((finding.what for finding in in_child(trial, "gate")), "")


def _unheld(config: Config) -> Iterator[tuple[str, str]]:
    """Why a root cannot be held, and what to do, for each such root."""
    for root in present(config.roots):
        try:
            with rootpath.opened(root.path) as directory:
                root_mounts.refuse(root.path, directory)
        except (FileNotFoundError, NotADirectoryError):
            continue  # the check of directories reports that
        except WatcherError as error:
            yield error.what, error.remedy
        except OSError as error:
            yield f"root {quoted(root.path)} cannot be held: {message_of(error)}", REMEDY


def _held(config: Config) -> Iterator[Finding]:
    """How each root is held, if it can be."""
    for root in present(config.roots):
        with suppress(OSError, WatcherError), rootpath.opened(root.path) as directory:
            root_mounts.refuse(root.path, directory)
            where = f"root {quoted(root.path)} is held"
            if root_mounts.is_whole(directory):
                yield ok(f"{where} by its file system, in every mount namespace")
            else:
                yield ok(f"{where} by its mount, in this mount namespace alone")
