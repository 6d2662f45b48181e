"""`make release`: what it keeps, and what it refuses to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import REPOSITORY
from watcher import __version__

SOURCES: Final = ("Makefile", "pyproject.toml", "CHANGELOG.md", "tools", "watcher", "handlers")
KEPT: Final = sorted(path.stem for path in (REPOSITORY / "tests/releases").glob("*.zip"))
VERSION: Final = "9.0.0"


class Checkout:
    """A repository of its own, with a copy of the sources."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        no_bytecode = shutil.ignore_patterns("__pycache__")
        for name in SOURCES:
            path = REPOSITORY / name
            if path.is_dir():
                shutil.copytree(path, directory / name, ignore=no_bytecode)
            else:
                shutil.copy(path, directory)
        self.git("init", "--quiet")
        self.commit()

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        somebody = {
            f"GIT_{who}_{what}": "somebody"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        env = {**os.environ, **somebody, "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            argv, cwd=self.directory, env=env, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def git(self, *args: str) -> str:
        return self.run("git", *args).stdout

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Whatever")

    def edit(self, name: str, pattern: str, text: str) -> None:
        file = self.directory / name
        edited, times = re.subn(pattern, text, file.read_text(), count=1, flags=re.MULTILINE)
        assert times == 1, name
        file.write_text(edited)

    def refused(self, *words: str) -> None:
        """`make release` makes nothing, and its error has `words` in it."""
        before = self.git("status", "--porcelain"), self.git("tag")
        done = self.run("make", "--no-print-directory", "release", check=False)
        assert done.returncode != 0
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        for word in words:
            assert word in error
        assert (self.git("status", "--porcelain"), self.git("tag")) == before


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository with a copy of the sources, to be changed and released."""
    return Checkout(tmp_path)


def test_a_release_is_kept_tagged_and_runs(checkout: Checkout) -> None:
    checkout.edit("pyproject.toml", r"^version = .*", f'version = "{VERSION}.dev0"')
    checkout.refused(f"{VERSION}.dev0")
    checkout.edit("pyproject.toml", r'^version = "(.*)\.dev0"', r'version = "\1"')
    checkout.refused("dirty")
    checkout.commit()
    checkout.refused("watcher/__init__.py", VERSION)
    checkout.edit("watcher/__init__.py", r"^__version__ = .*", f'__version__ = "{VERSION}"')
    checkout.commit()
    checkout.refused("CHANGELOG.md", VERSION)
    checkout.edit("CHANGELOG.md", r"^## Unreleased$", f"## Unreleased\n\n## {VERSION} - 2030-01-01")
    checkout.commit()

    checkout.run("make", "release")
    archive = f"tests/releases/{VERSION}.zip"
    assert checkout.git("status", "--porcelain", "--untracked-files=all") == f"?? {archive}\n"
    assert checkout.git("rev-parse", f"v{VERSION}^{{commit}}") == checkout.git("rev-parse", "HEAD")
    command = ("env", f"PYTHONPATH={archive}", sys.executable, "-m", "watcher", "--version")
    shutil.rmtree(checkout.directory / "watcher")
    assert checkout.run(*command).stdout == f"watcher {VERSION}\n"

    checkout.git("checkout", "--", "watcher")
    checkout.commit()
    checkout.refused(archive, "is released")


def test_the_present_version_is_told_alike_everywhere() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert __version__ not in KEPT, "set the next version"


@pytest.mark.parametrize("version", KEPT)
def test_the_changelog_tells_of_every_release(version: str) -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    assert len(re.findall(rf"(?m)^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", changelog)) == 1
