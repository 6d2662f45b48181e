"""`make demo-cluster`."""

from __future__ import annotations

import subprocess

from tests.support.paths import REPOSITORY


def test_every_promise_of_the_tour_of_three_hosts_holds() -> None:
    demo = REPOSITORY / "deploy/demo-cluster"
    done = subprocess.run([demo], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert done.stderr == ""
