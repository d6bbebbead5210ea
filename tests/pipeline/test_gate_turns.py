"""Who is cancelled and served in one turn of the loop: the token is not lost between the two."""

from __future__ import annotations

import anyio

from anabranch._host import current_host
from anabranch.pipeline._gate import Gate


async def test_who_is_served_just_after_its_cancellation_keeps_no_token() -> None:
    gate = Gate(current_host().runtime)
    gate.total_tokens = 1
    gate.acquire_on_behalf_of_nowait("first")
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            await gate.acquire_on_behalf_of("waits")

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        gate.release_on_behalf_of("first")  # it stands in line still, and is served
        assert gate.borrowers == ["waits"]
    assert gate.borrowed_tokens == 0
    assert gate.tasks_waiting == 0
