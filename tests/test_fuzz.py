"""What others write, as any bytes: a few inputs of `make fuzz`, and all that it ever found."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest

KEPT = [
    (file.parent.name, file.name)
    for kind in fuzz.TARGETS
    for file in sorted((fuzz.CORPUS / kind).iterdir())
]


@pytest.mark.parametrize(("kind", "name"), KEPT)
def test_what_is_kept(kind: str, name: str, tmp_path: Path) -> None:
    assert (
        fuzz.attempt(fuzz.TARGETS[kind], (fuzz.CORPUS / kind / name).read_bytes(), tmp_path) == ""
    )


@pytest.mark.parametrize("kind", fuzz.TARGETS)
def test_some_more(kind: str, tmp_path: Path) -> None:
    inputs = fuzz.Inputs(1)
    for _ in range(50 if kind == "database" else 500):
        data = inputs.make(kind)
        assert fuzz.attempt(fuzz.TARGETS[kind], data, tmp_path) == "", data


def test_a_defect_is_seen() -> None:
    def broken(_: bytes, __: Path) -> None:
        raise KeyError("x")

    assert fuzz.attempt(broken, b"", Path()) == "KeyError: 'x'"
