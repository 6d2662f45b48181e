"""A proxy of TCP, which has each connection go where a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def forwarding(choose: Callable[[bytes], tuple[str, int]]) -> AsyncIterator[str]:
    """The URL of a proxy on this namespace's loopback, while it is used.

    Args:
        choose: the address and port for a connection, by its first line.
    """
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            line = await reader.readline()
            there, back = await asyncio.open_connection(*choose(line))
            back.write(line)
            for pair in ((reader, back), (there, writer)):
                task = asyncio.create_task(_forward(*pair))
                running.add(task)
                task.add_done_callback(running.discard)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
