"""Containers without a network, and hosts without a service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.checks.services import findings as of_other_service
from watcher.locks.serving import serving
from watcher.model.container import Status
from watcher.model.errors import quoted

if TYPE_CHECKING:
    from watcher.config.settings import Config

_REMEDIES: Final = {
    Status.WAITING: "see that the service runs (`systemctl status watcher`), or run `watcher sync`",
    Status.FAILED: "see `watcher ls --all` and the service's log, then start it again",
    Status.EXITED: "see why it ended, delete it and start it again",
    Status.IGNORED: "if it is to have one of ours, start it with a network namespace of its own and"
    " without another network",
}

_IGNORED: Final = {
    "io.watcher.network = none": "if it is to have one, remove that annotation and start it again",
    "its root attaches annotated containers alone": "if it is to have one, give it an annotation of"
    ' io.watcher, or set attach = "all" for its root',
    "it is in the host's network namespace": "see `ss -lntu` on this host for where its programs"
    " listen; for a network of its own, give it a network namespace",
}
"""Remedies for reasons of :func:`watcher.reconcile.plan.plan`."""


def without_network(id_: str, status: Status, reason: str) -> Finding:
    """Why the container `id_` has no network, from its status and reason in `watcher ls`."""
    what = reason.removeprefix(f"container {quoted(id_)}: ")
    remedy = _REMEDIES[status]
    if status is Status.IGNORED:
        remedy = _IGNORED.get(what, remedy)
    elif status is Status.FAILED and "; " in what:  # it has a remedy of its own
        what, _, remedy = what.rpartition("; ")
    tell = warn if status is Status.IGNORED else fail
    return tell(f"{quoted(id_)} has no network, it is {status}: {what}", remedy)


def of_service(config: Config) -> Iterator[Finding]:
    """Whether a service looks after the container."""
    found = serving()
    if found is None:
        yield warn(
            "no service runs on this host: nothing is repaired by itself, and new containers get"
            " no network",
            "run `systemctl start watcher`",
        )
    elif found.is_by(config.run_dir):
        yield ok(f"the service runs, process {found.pid}")
    else:
        yield from of_other_service(Subject(config, {}))
