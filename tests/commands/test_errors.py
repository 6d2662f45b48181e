"""What an error says to a user: what, where and what to do, and nothing of Python's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from watcher.model.errors import WatcherError, said, told


def test_the_system_is_told_by_its_words_and_the_file() -> None:
    with pytest.raises(FileNotFoundError) as refused:
        Path("/nowhere/web").stat()
    assert said(refused.value) == "No such file or directory (/nowhere/web)"
    assert told(refused.value) == "No such file or directory (/nowhere/web); run `watcher check`"


def test_too_many_open_files_have_a_remedy_of_their_own() -> None:
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    assert told(error).startswith("Too many open files; raise LimitNOFILE")


def test_an_own_error_stands_as_it_is() -> None:
    error = WatcherError("the lease store is damaged", "move it away")
    assert said(error) == told(error) == "the lease store is damaged; move it away"
