"""A journal that a disk has damaged is told of in one error, whatever is wrong in it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from anabranch import ConfigurationError, Job, open_scheduler
from anabranch.observe import Journal
from tests.branches import sleep

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]
PAGE = 4096
HEADER = 100  # bytes, by which a file is known


@pytest.fixture
async def whole(tmp_path: Path) -> bytes:
    with Journal(tmp_path / "whole", describe=lambda outcome: {"n": outcome.key}) as journal:
        async with open_scheduler(20, recorder=journal) as scheduler:
            scheduler.feed(Job(f"branch-{n}", sleep, (0,)) for n in range(300))
            async for _ in scheduler.outcomes:
                pass
    return (tmp_path / "whole").read_bytes()


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Cut a file off, or write zeros or noise into it."""
    how, parts = draw.randrange(4), bytearray(data)
    if how == 0:
        return data[: draw.randrange(len(data))]
    if how == 1:
        page = draw.randrange(len(data) // PAGE)
        parts[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    else:
        for _ in range(1 if how == 2 else 50):
            parts[draw.randrange(HEADER, len(parts))] ^= draw.randrange(1, 256)
    return bytes(parts)


def read(path: Path) -> None:
    with Journal(path) as journal:
        keys = [entry.key for entry in journal.entries()]
        for key in keys[:3]:
            journal.find(key)
        list(journal.left([Job("branch-1", sleep)]))


async def test_a_damaged_journal_is_one_clear_error_and_nothing_else(
    tmp_path: Path, whole: bytes
) -> None:
    refused = []
    for seed in range(40):
        path = tmp_path / f"damaged-{seed}"
        path.write_bytes(damaged(whole, random.Random(seed)))
        try:
            read(path)
        except ConfigurationError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all("damaged-" in words for words in refused), "it says which file"
    assert any("is damaged" in words for words in refused)
