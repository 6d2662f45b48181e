"""A few of the messages of `make fuzz`."""

from __future__ import annotations

from tests.names import fuzz


def test_any_bytes_from_anybody() -> None:
    run = fuzz.Run(1)
    for _ in range(20_000):
        run.step()
    assert set(run.codes) == {
        "BADVERS", "FORMERR", "NOERROR", "NOTIMP", "NXDOMAIN", "REFUSED", "forwarded", "nothing",
    }  # fmt: skip
