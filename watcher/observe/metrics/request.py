"""A request of HTTP/1, as far as one for metrics goes: no body, and an answer ends the connection.

Source: RFC 9112. The server of the client library is wsgiref's, with a thread for each client and
as much time as that takes. So this is our own, on asyncio's streams.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

MAX: Final = 8192
"""The most bytes of a request's head."""

_FIRST: Final = re.compile(r"([A-Z]+) ([!-~]+) HTTP/1\.[01]")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


class Refused(Exception):
    """A request that is not answered as it wishes; `status` tells why."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class Request(Struct, frozen=True):
    """A request.

    Attributes:
        whole: whether the answer has a body: not for HEAD.
        path: what it asks for.
        fields: its header, with names in lower case.
    """

    whole: bool
    path: str
    fields: dict[str, str]


def parsed(head: bytes) -> Request:
    """The request of that head, which ends with an empty line.

    Raises:
        Refused: it is no request of HTTP/1, or of another method than GET and HEAD.
    """
    first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = _FIRST.fullmatch(first)
    if line is None:
        raise Refused(HTTPStatus.BAD_REQUEST)
    fields: dict[str, str] = {}
    for text in rest:
        field = _FIELD.fullmatch(text)
        if field is None:
            raise Refused(HTTPStatus.BAD_REQUEST)
        name, value = field[1].lower(), field[2]
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    method, target = line[1], line[2]
    if method not in ("GET", "HEAD"):
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)
    try:
        path = urlsplit(target).path
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST) from error
    return Request(method == "GET", path, fields)
