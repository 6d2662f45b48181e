"""docs/limits.md: what it tells to write is understood."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import REPOSITORY
from watcher.config.load import load
from watcher.containers.annotations import parse_request

PAGE: Final = "".join((REPOSITORY / name).read_text() for name in ("docs/limits.md", "README.md"))
ANNOTATIONS: Final = [
    text for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) if "io.watcher" in text
]


@pytest.mark.parametrize("text", ANNOTATIONS)
def test_each_bundle_is_understood(text: str) -> None:
    found = json.loads(f"{{{text}}}")
    parse_request(found.get("annotations", found))


def test_the_configuration_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "watcher.toml"
    for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        file.write_text(text)
        config = load(file)
        assert all(root.limits.policy in ("", *config.networks) for root in config.roots)
