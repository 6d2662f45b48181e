"""What may stand in a cell of the table, and how wide it is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from watcher.observe.top.text import fitted, short

JOINING = "\u1100\u1161\u200d\ufe0f\u20e3#\u2764\U0001f1e9\U0001f1ea\U0001f400\U0001f3fb"


@given(st.text(max_size=20) | st.text(JOINING, max_size=8), st.integers(0, 12))
def test_any_text_takes_exactly_its_cells(text: str, width: int) -> None:
    shown = fitted(text, width)
    assert wcswidth(shown) == width, ascii(shown)
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web", "web     "),
        ("exactly8", "exactly8"),
        ("one-more!", "one-mor…"),
        ("日本語日本", "日本語… "),
        ("\x1b[2J", r"\x1b[2J "),
        ("a\u202eb", r"a\u202eb"),
        ("\u05d0", r"\u05d0  "),
        ("e\u0301", r"e\u0301 "),
        ("\U0001f400\U0001f3fb", "\U0001f400…     "),
        ("x" * 4000, "xxxxxxx…"),
    ],
)
def test_what_could_move_anything_is_escaped(text: str, shown: str) -> None:
    assert fitted(text, 8) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0, "0"), (0.04, "0"), (0.5, "0.5"), (1, "1"), (9.96, "10"), (999.4, "999")),
        *((999.5, "1.00k"), (1234, "1.23k"), (99_960, "100k"), (999_499, "999k"), (1e6, "1.00M")),
        *((12.3e9, "12.3G"), (2**64, "18.4E"), (1e27, "1000Y")),
    ],
)
def test_a_number_has_three_digits(value: float, shown: str) -> None:
    assert short(value) == shown
