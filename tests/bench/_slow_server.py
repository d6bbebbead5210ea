"""Serve 32 requests at a time, and all more slowly above: python -m tests.bench._slow_server.

A request is a line with its latency in seconds; the answer is a line, ``ok`` or ``503``.
What is served is shared by all that are there, and above the knee less of it in all.
"""

from __future__ import annotations

import asyncio

SERVED = 32
REFUSED = 256
TICK = 0.004

active = 0


def speed() -> float:
    """Return how many seconds of service each request has in a second."""
    if active <= SERVED:
        return 1.0
    return SERVED / active * SERVED / active


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global active  # noqa: PLW0603  # one program, one loop
    left = float(await reader.readline())
    answer = b"503\n"
    if active < REFUSED:
        active += 1
        loop = asyncio.get_running_loop()
        last = loop.time()
        while left > 0:
            await asyncio.sleep(TICK)
            now = loop.time()
            left -= (now - last) * speed()
            last = now
        active -= 1
        answer = b"ok\n"
    writer.write(answer)
    await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
