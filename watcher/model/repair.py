"""A repair: one difference between the host and what it should have."""

from __future__ import annotations

from msgspec import Struct


class Repair(Struct, frozen=True):
    """One difference that sync found between the host and what it should have.

    Attributes:
        what: the thing and what was done to it, e.g. `made veth netnsv0-812`.
        sandbox: the sandbox's id; empty for the host as a whole.
        why: what sync found, e.g. `link was missing`.
        link: the host end of the link concerned, if there is one.
        error: why this repair failed while the others succeeded; empty if it was made.
    """

    what: str
    sandbox: str
    why: str
    link: str = ""
    error: str = ""
