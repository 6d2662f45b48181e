"""Asks nftables, without any change, whether it would accept commands, and which line is wrong.

The binding of :mod:`handlers.kernel.nft` has no dry run, and none of its errors has a line.
Source: libnftables(3).
"""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import ExitStack
from functools import cache

from msgspec import Struct

_DEFAULT = 0
"""NFT_CTX_DEFAULT."""


class Refusal(Struct, frozen=True):
    """Why commands are refused.

    Attributes:
        line: the first line that is wrong, from 1; 0 if that is not known.
        reason: what nftables says.
    """

    line: int
    reason: str


def refusal(commands: str, directory: str) -> Refusal | None:
    """What nftables has against `commands`; `None` if nothing.

    They are written to a file in `directory`, one without a name: only errors about a file have
    lines. Where that cannot be, they are not asked about here.

    A few rules are refused only when they are committed: the kernel then compares them with the
    chains that lead to them (`nf_tables_validate` in `net/netfilter/nf_tables_api.c`).
    """
    library = _library()
    with ExitStack() as left:
        try:
            file = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:  # not every file system has such files
            return None
        left.callback(os.close, file)
        os.write(file, commands.encode())
        context = library.nft_ctx_new(_DEFAULT)
        left.callback(library.nft_ctx_free, context)
        library.nft_ctx_set_dry_run(context, True)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_filename(context, f"/proc/self/fd/{file}".encode()) == 0:
            return None
        told: bytes = library.nft_ctx_get_error_buffer(context) or b""
    first = told.decode(errors="replace").strip().partition("\n")[0]
    match = re.match(r"/proc/self/fd/[0-9]+:([0-9]+):[0-9-]+: Error: (.*)", first)
    if match is None:
        return Refusal(0, first or "nftables gave no reason")
    return Refusal(int(match[1]), match[2])


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.argtypes = (ctypes.c_uint32,)
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_free.argtypes = (ctypes.c_void_p,)
    library.nft_ctx_free.restype = None
    library.nft_ctx_set_dry_run.argtypes = (ctypes.c_void_p, ctypes.c_bool)
    library.nft_ctx_set_dry_run.restype = None
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = (ctypes.c_void_p,)
    library.nft_run_cmd_from_filename.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    library.nft_ctx_get_error_buffer.argtypes = (ctypes.c_void_p,)
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    return library
