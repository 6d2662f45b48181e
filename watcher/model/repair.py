"""A difference between what is and what should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repair:
    """One difference between what is and what should be, found by sync.

    Attributes:
        what: the thing and what was done to it, e.g. `made veth netnsv0-812`.
        sandbox: the sandbox's id; empty where it is of the host as a whole.
        why: what was found, e.g. `link was missing`.
        link: the host end of the link that it is about, if it is about one.
        error: why it could not be put right, though all else was; empty where it was.
    """

    what: str
    sandbox: str
    why: str
    link: str = ""
    error: str = ""
