"""Let four threads do with a WorkerPool whatever may be done, while its tasks wait for tasks."""

from __future__ import annotations

import threading

from tests.soak._round import Round
from tests.workerpool.puppets import PATIENCE
from tests.workerpool.test_stress import Chaos

PEOPLE = 4


def soak_pool(this: Round) -> None:
    """Use a pool at random; it ends, its totals add up, and never more run than may."""
    number = this.draw.getrandbits(32)
    chaos = Chaos(number)
    people = [threading.Thread(target=chaos.use, args=(number + n / 10,)) for n in range(PEOPLE)]
    for each in people:
        each.start()
    for each in people:
        each.join(2 * PATIENCE)
        this.claim(not each.is_alive(), "whoever uses the pool hangs")
    chaos.pool.shutdown(cancel_futures=True)
    for error in chaos.errors:
        this.claim(False, f"using the pool raised {error!r}")
    summary = chaos.pool.get_summary_metrics()
    ends = ("completed", "failed", "cancelled", "timed_out", "abandoned", "pending", "running")
    this.claim(summary["submitted"] == sum(summary[end] for end in ends), f"totals: {summary}")
    this.claim(not summary["pending"] and not summary["running"], f"it is shut down: {summary}")
    this.claim(chaos.peak <= chaos.limit, f"{chaos.peak} ran at once of {chaos.limit}")
    this.did["tasks of worker pools"] += summary["submitted"]
    this.injected["errors"] += summary["failed"] + summary["total_retries"]
    this.injected["timeouts"] += summary["timed_out"] + summary["abandoned"]
    this.injected["cancellations"] += summary["cancelled"]
