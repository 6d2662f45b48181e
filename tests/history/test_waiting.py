"""`watcher events` waits for a service that has ended, whatever goes meanwhile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.history.played import PlayedService
from watcher.observe import waiting
from watcher.observe.waiting import Wait

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_directory_that_goes_as_it_is_about_to_be_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `watcher down` removes it. Then the one above is watched."""
    run_dir, existing = tmp_path / "run", waiting._existing
    run_dir.mkdir()
    served: list[PlayedService] = []

    def going(directory: str) -> str:
        found = existing(directory)
        if found == str(run_dir):
            run_dir.rmdir()
        else:
            served.append(PlayedService(tmp_path))
        return found

    monkeypatch.setattr(waiting, "_existing", going)
    reader, writer = os.pipe()
    try:
        Wait(writer).for_service(str(run_dir)).close()
    finally:
        os.close(reader)
        os.close(writer)
    (service,) = served
    service.stop()
