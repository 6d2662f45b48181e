"""Requests to the members of etcd as one user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from watcher.cluster.etcd import wire
from watcher.cluster.etcd.errors import (
    Answered,
    EtcdError,
    Failed,
    Silent,
    TooLarge,
    Unavailable,
    Uncertain,
)
from watcher.cluster.etcd.meanings import NO_AUTHENTICATION, is_stale, meaning
from watcher.cluster.etcd.members import Members
from watcher.cluster.etcd.secrets import read_password
from watcher.cluster.etcd.transport import Stream, Transport
from watcher.log.logger import Log


class Session:
    """Requests to the members.

    Args:
        transport: how one is asked; closed by its maker.
        members: them all.
        user: as whom; empty: as nobody, where etcd wants no user.
        password_file: the file with that user's password.
    """

    def __init__(
        self, transport: Transport, members: Members, user: str, password_file: str, log: Log
    ) -> None:
        self._transport = transport
        self.members = members
        self._user = user
        self._password_file = password_file
        self._log = log
        self._token: str | None = None
        self._authenticating = asyncio.Lock()
        self._failures = 0
        """How often a member did not give a token."""
        self._refused: dict[str, tuple[int, Failed]] = {}
        """By member, which of these times was its last one, and why it was."""
        self._told = False

    async def anywhere[T](
        self, path: str, body: Any, read: Callable[[bytes], T], *, repeatable: bool
    ) -> T:
        """What the first member answers that does.

        Args:
            repeatable: whether a second member may be asked when the first may have done it.

        Raises:
            Unavailable: none does.
            Uncertain: one may have done it; only if it is not repeatable.
            EtcdError: etcd answers with an error.
        """
        tried: list[tuple[str, str]] = []
        for member in self.members:
            for once_more in (True, False):
                try:
                    return await self.at(member, path, body, read)
                except TooLarge:
                    self.members.failed(member)  # it may be that member alone
                    raise
                except Failed as failed:
                    tried.append((member, failed.why))
                    if failed.sent and not repeatable:
                        self.members.failed(member)
                        raise Uncertain(tuple(tried)) from None
                    if not (failed.stale and once_more):
                        self.members.failed(member)
                        break
        raise Unavailable(tuple(dict.fromkeys(tried)))

    async def at[T](self, member: str, path: str, body: Any, read: Callable[[bytes], T]) -> T:
        """What one member answers.

        Raises:
            Failed: it does not.
            EtcdError: as :meth:`anywhere`.
        """

        async def ask(token: str) -> T:
            return read(await self._transport.ask(member, path, body, token))

        return await self._authorized(member, ask)

    @asynccontextmanager
    async def lines(self, member: str, path: str, body: Any) -> AsyncIterator[Stream]:
        """The lines that one member tells.

        Raises:
            Failed, EtcdError: as :meth:`at`.
        """
        try:
            token = await self._get_token(member)
            async with self._transport.lines(member, path, body, token) as stream:
                yield stream
        except Answered as error:
            raise self.ended(error) from None
        except Silent:
            self._forget(token)
            raise

    def ended(self, error: Answered) -> EtcdError | Failed:
        """What to raise for the error with which lines have ended, or never began."""
        if not (self._user and is_stale(error)):
            return self.meaning(error)
        self._token = None
        return Failed("the token has lapsed", stale=True)

    def meaning(self, error: Answered) -> EtcdError | Failed:
        """What to raise in place of `error`."""
        return meaning(error, self._user)

    async def _authorized[T](self, member: str, ask: Callable[[str], Awaitable[T]]) -> T:
        token = await self._get_token(member)
        try:
            return await ask(token)
        except Answered as error:
            if not (self._user and is_stale(error)):
                raise self.meaning(error) from None
        except Silent:
            self._forget(token)
            raise
        self._forget(token)
        try:
            return await ask(await self._get_token(member))
        except Answered as error:
            raise self.meaning(error) from None

    def _forget(self, token: str) -> None:
        """Have the next request ask for another token, unless somebody has meanwhile.

        A member may be silent because of its token: one names a revision, and etcd waits for that
        (server/auth/simple_token.go, isValidSimpleToken), which is long after it was restored.
        """
        if self._token == token:
            self._token = None

    async def _get_token(self, member: str) -> str:
        """A token for the user; empty if there is none.

        Raises:
            Failed, Refused.
        """
        if not self._user:
            return ""
        before = self._failures
        async with self._authenticating:
            if self._token is None:
                at, failed = self._refused.get(member, (0, None))
                if failed is not None and at > before:  # while this request has waited
                    raise Failed(failed.why, stale=failed.stale)
                try:
                    self._token = await self._authenticate(member)
                except Failed as error:
                    self._failures += 1
                    self._refused[member] = self._failures, error
                    raise
            return self._token

    async def _authenticate(self, member: str) -> str:
        body = {"name": self._user, "password": read_password(self._password_file)}
        try:
            answer = await self._transport.ask(member, "/v3/auth/authenticate", body)
            return wire.read_token(answer)
        except Failed as error:
            failed = error
        except Answered as error:
            if NO_AUTHENTICATION in error.message:
                if not self._told:
                    self._log.warning("etcd lets in everybody, the password is not needed")
                    self._told = True
                return ""
            meant = self.meaning(error)
            if not isinstance(meant, Failed):
                raise meant from None
            failed = meant
        raise Failed(failed.why, stale=failed.stale)  # nothing has been changed
