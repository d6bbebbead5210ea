"""How long a job may run where that is a share of what jobs usually take."""

import math

import anyio

from anabranch._host import current_host
from anabranch.cli._exec_terms import duration
from anabranch.cli._exec_timeout import Patience


async def test_a_share_is_known_once_three_jobs_have_succeeded():
    patience = Patience(duration("timeout", "200%"))
    assert patience.fixed is None
    limits = []
    for ran in (1.0, 2.0, 30.0, 30.0):
        async with patience.limits(current_host()) as limited:
            limits.append(limited.scope.deadline - limited.began_at)
        patience.succeeded(ran)
    assert limits == [math.inf, math.inf, math.inf, 4.0]


async def test_jobs_that_run_already_are_limited_too():
    patience = Patience(duration("timeout", "200%"))
    async with patience.limits(current_host()) as limited:
        for _ in range(3):
            patience.succeeded(1.0)
        await anyio.sleep(60)
    assert limited.ended is not None
    assert limited.ended.kind == "timeout"
    assert limited.ended.duration_s == 2.0


async def test_a_fixed_time_is_the_scripts_own():
    patience = Patience(duration("timeout", "2m"))
    assert patience.fixed == 120.0
    async with patience.limits(current_host()) as limited:
        assert limited.scope.deadline == math.inf
