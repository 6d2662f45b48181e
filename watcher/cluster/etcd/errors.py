"""What can go wrong with etcd. Each error is one line, and tells no secret."""

from __future__ import annotations

from typing import Final

from watcher.model.errors import WatcherError

_LOOK: Final = "look whether etcd runs there: `etcdctl endpoint health`"


class EtcdError(WatcherError):
    """etcd did not do what it was asked."""


class Unavailable(EtcdError):
    """No member of etcd answers.

    Args:
        tried: the members and why each did not, in the order in which they were asked.
    """

    def __init__(self, tried: tuple[tuple[str, str], ...]) -> None:
        super().__init__(self._sentence(tried), _LOOK)
        self.tried = tried

    @staticmethod
    def _sentence(tried: tuple[tuple[str, str], ...]) -> str:
        return "no etcd answers: " + ", ".join(f"{url}: {why}" for url, why in tried)


class Uncertain(Unavailable):
    """A member did not answer a change that it may have made: read again before the next one."""

    @staticmethod
    def _sentence(tried: tuple[tuple[str, str], ...]) -> str:
        url, why = tried[-1]
        return f"etcd may or may not have made a change: {url}: {why}"


class Compacted(EtcdError):
    """The history does not go back to the revision that was asked for.

    Args:
        revision: the oldest that it has; 0 if etcd did not say.
    """

    def __init__(self, revision: int = 0) -> None:
        super().__init__("etcd has compacted the revision that was asked for", "read all again")
        self.revision = revision


class Replaced(EtcdError):
    """etcd is another one than before, or was restored from an older snapshot.

    Args:
        revision: the revision that it has now; 0 if unknown.
        cluster_id: that of the etcd that answers now; 0 if unknown.
    """

    def __init__(self, revision: int = 0, cluster_id: int = 0) -> None:
        super().__init__(
            "etcd has less than it had: it is another one, or was restored from a snapshot",
            "read all again",
        )
        self.revision = revision
        self.cluster_id = cluster_id


class TooLarge(EtcdError):
    """The answer is larger than this program reads at once."""


class NoLease(EtcdError):
    """The lease has lapsed, or never was."""

    def __init__(self) -> None:
        super().__init__("etcd does not have the lease any more", "ask for another one")


class Refused(EtcdError):
    """etcd does not let this user in, or a file that is needed for it cannot be used."""


class Failed(Exception):
    """One member did not answer; only for this room.

    Args:
        why: the reason, in a few words.
        sent: whether it may have done what it was asked.
        stale: whether it is worth a retry: the token had lapsed, or a kept connection had been
            closed meanwhile.
    """

    def __init__(self, why: str, *, sent: bool = False, stale: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.sent = sent
        self.stale = stale


class Silent(Failed):
    """A member has accepted a request, and does not answer."""


class Answered(Exception):
    """A member answered with an error; only for this room.

    Args:
        code: that of gRPC.
        message: etcd's.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
