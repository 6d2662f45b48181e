"""The etcd that is measured, and what it counts."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.cluster_size.cluster import URL

_COUNTED: Final = {
    "proposals": "etcd_server_proposals_committed_total",
    "revision": "etcd_debugging_mvcc_current_revision",
    "log_bytes": "etcd_disk_wal_write_bytes_total",
    "fsyncs": "etcd_disk_wal_fsync_duration_seconds_count",
    "fsync_seconds": "etcd_disk_wal_fsync_duration_seconds_sum",
    "slow_watches": "etcd_debugging_mvcc_slow_watcher_total",
    "pending_events": "etcd_debugging_mvcc_pending_events_total",
}


@contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    process = subprocess.Popen(words)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def words(data: Path) -> list[str]:
    """The command line."""
    return [
        "etcd", f"--data-dir={data}", "--log-level=error", "--quota-backend-bytes=8589934592",
        f"--listen-client-urls={URL}", f"--advertise-client-urls={URL}",
    ]  # fmt: skip


async def healthy() -> None:
    """Wait until it answers."""
    while True:
        try:
            counters()
        except OSError:
            await asyncio.sleep(0.1)
        else:
            return


def counters() -> dict[str, float]:
    """Of etcd: what was agreed upon, its revision, its log on disk, and watches that lag."""
    with urllib.request.urlopen(f"{URL}/metrics") as answer:  # noqa: S310 - by http
        lines = answer.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(found[of]) for name, of in _COUNTED.items()}
