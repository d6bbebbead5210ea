"""Give the tests of a seed its blocks as they stand, where the seeds are."""

from collections.abc import Callable

import pytest

from tests.seeds import blocks


@pytest.fixture
def block(request: pytest.FixtureRequest) -> Callable[[int], str]:
    """Return the block of a number, of the seed that the module's ``SEED`` names."""
    folder = blocks.folder()
    if folder is None:
        pytest.skip("the seeds are not here: they are no part of the repository (ANABRANCH_SEEDS=)")
    file = folder / blocks.index()[request.module.SEED].file
    found = blocks.blocks_of(file.read_text("utf-8"))
    return lambda number: found[number - 1]
