"""What the errors of etcd mean, by their words: api/v3rpc/rpctypes/error.go of etcd 3.5."""

from __future__ import annotations

from typing import Final

from watcher.cluster.etcd.errors import (
    Answered,
    Compacted,
    EtcdError,
    Failed,
    NoLease,
    Refused,
    Replaced,
)
from watcher.model.errors import quoted

NO_AUTHENTICATION: Final = "authentication is not enabled"

_STALE: Final = ("invalid auth token", "revision of auth store is old", "user name is empty")
_ELSEWHERE: Final = (4, 13, 14)  # DeadlineExceeded, Internal, Unavailable of gRPC
_NO_CERTIFICATE: Final = ("error reading server preface", "failed to write client preface")
"""What the gateway, a client of its own member, answers if that takes it for nobody: it depends on
which of the two is faster."""

_NOT_DONE: Final = ("no leader", "too many requests")
"""What a member answers before it hands a request on (`newUnaryInterceptor` in
server/etcdserver/api/v3rpc/interceptor.go, `processInternalRaftRequestOnce` in v3_server.go)."""


def is_stale(error: Answered) -> bool:
    """Whether a new token helps: the old one has lapsed, or its member knows it no more."""
    return any(words in error.message for words in _STALE)


def meaning(error: Answered, user: str) -> EtcdError | Failed:
    """What to raise in place of an error that etcd has answered with.

    Args:
        user: who asked; empty: nobody in particular.
    """
    message = error.message
    if "has been compacted" in message:
        return Compacted()
    if "future revision" in message:
        return Replaced()
    if "requested lease not found" in message:
        return NoLease()
    if any(words in message for words in _NO_CERTIFICATE):
        return Failed("its gateway has no certificate for clients (see docs/cluster.md)")
    if "database space exceeded" in message:
        return EtcdError(
            "etcd's database is full", "compact and defragment it, or raise --quota-backend-bytes"
        )
    if "permission denied" in message:
        return Refused(
            f"etcd does not let its user {quoted(user)} do this"
            if user
            else "etcd lets only users do this",
            "give the user the role that docs/cluster.md has",
        )
    if "user name is empty" in message:
        return Refused("etcd wants a user", "name one by user and password_file in [cluster]")
    if "authentication failed" in message:
        return Refused(
            f"etcd knows no user {quoted(user)} with that password",
            "see that user and password_file in [cluster] are those of `etcdctl user add`",
        )
    if is_stale(error):
        return Refused(f"etcd takes no token of its user {quoted(user)}", "see etcd's log")
    if error.code in _ELSEWHERE or any(words in message for words in _NOT_DONE):
        sent = not any(words in message for words in _NOT_DONE)
        return Failed(quoted(message.removeprefix("etcdserver: ")), sent=sent)
    return EtcdError(f"etcd answers {quoted(message)}", "see etcd's log")


def meaning_of_end(reason: str) -> Answered:
    """The error for which etcd has ended a watch: `rpc error: code = Name desc = words`."""
    return Answered(0, reason.partition(" desc = ")[2] or reason)
