"""What an error says to a user: what, where and what to do, and nothing of Python's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from watcher.model.errors import (
    InvalidRequest,
    WatcherError,
    about,
    message_of,
    message_with_remedy,
)


def test_the_system_is_told_by_its_words_and_the_file() -> None:
    with pytest.raises(FileNotFoundError) as refused:
        Path("/nowhere/web").stat()
    assert message_of(refused.value) == "No such file or directory (/nowhere/web)"
    assert (
        message_with_remedy(refused.value)
        == "No such file or directory (/nowhere/web); run `watcher check`"
    )


def test_too_many_open_files_have_a_remedy_of_their_own() -> None:
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    assert message_with_remedy(error).startswith("Too many open files; raise LimitNOFILE")


def test_an_own_error_stands_as_it_is() -> None:
    error = WatcherError("the lease store is damaged", "move it away")
    assert (
        message_of(error)
        == message_with_remedy(error)
        == "the lease store is damaged; move it away"
    )


def test_an_invalid_request_gets_its_container_where_that_is_known() -> None:
    error = InvalidRequest("io.watcher.ip", "10.9.9.9", "it is taken", "ask for another")
    assert str(error) == 'io.watcher.ip = "10.9.9.9": it is taken; ask for another'
    assert about("web", error) == f'container "web": {error}'


def test_the_system_says_nothing_of_the_container_either() -> None:
    error = OSError(errno.ENOENT, "No such file or directory")
    assert about("web", error).startswith('container "web": No such file or directory; ')
    own = WatcherError("the lease store is damaged", "move it away")
    assert about("web", own) == str(own)
