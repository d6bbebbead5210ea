"""The queue: most urgent first, first come first among equals."""

import random
import threading

from anabranch._branch import PLAIN, Branch
from anabranch._queue import Queue
from anabranch._retry import Retry
from anabranch._tries import Tries
from anabranch._work import Status


def branch(key, priority=0):
    return Branch(key, PLAIN, print, (), 0.0, priority=priority)


def drain(queue):
    return [each.key for each in iter(queue.pop, None)]


def test_the_most_urgent_comes_first_and_the_first_among_equals():
    queue = Queue()
    for key, priority in [("a", 0), ("b", 5), ("c", 0), ("d", -3), ("e", 5)]:
        queue.push(branch(key, priority))
    assert len(queue) == 5
    assert drain(queue) == ["b", "e", "a", "c", "d"]
    assert not queue


def test_it_orders_as_a_stable_sort_does():
    rng = random.Random(7)
    branches = [branch(str(i), rng.randrange(-3, 4)) for i in range(500)]
    queue = Queue()
    for each in branches:
        queue.push(each)
    waiting = [each.key for each in queue.waiting()]
    expected = [each.key for each in sorted(branches, key=lambda b: -b.priority)]
    assert waiting == expected == drain(queue)


def test_what_has_ended_is_passed_over():
    queue = Queue()
    branches = [branch(str(i)) for i in range(6)]
    queue.push_all(branches)
    for each in branches[::2]:
        each.status = Status.CANCELLED
    assert [each.key for each in queue.waiting()] == ["1", "3", "5"]
    assert drain(queue) == ["1", "3", "5"]


def test_pruning_forgets_what_has_ended():
    queue = Queue()
    branches = [branch(str(i), i % 2) for i in range(6)]
    for each in branches:
        queue.push(each)
    for each in branches[:4]:
        each.status = Status.CANCELLED
    queue.prune()
    assert len(queue) == 2
    assert drain(queue) == ["5", "4"]


def test_what_is_put_back_comes_first_again():
    queue = Queue()
    for key in "abc":
        queue.push(branch(key))
    first = queue.pop()
    queue.put_back(first)
    assert drain(queue) == ["a", "b", "c"]


def test_a_new_level_between_two_is_found():
    queue = Queue()
    queue.push(branch("low", 0))
    queue.push(branch("high", 10))
    assert queue.pop().key == "high"
    queue.push(branch("middle", 5))
    assert drain(queue) == ["middle", "low"]


def test_as_many_priorities_as_branches_cost_no_more_than_a_sort():
    rng = random.Random(3)
    branches = [branch(str(i), rng.randrange(10**9)) for i in range(20_000)]
    queue = Queue()
    for each in branches[:10_000]:
        queue.push(each)
    queue.push_levels(branches[10_000:])
    assert len(queue) == 20_000
    expected = [each.key for each in sorted(branches, key=lambda b: -b.priority)]
    assert drain(queue) == expected
    assert not queue


def test_threads_that_pop_while_priorities_come_lose_nothing():
    queue, popped, done = Queue(), [], threading.Event()

    def pop():
        while True:
            last = done.is_set()  # asked before, so that nothing can come in between
            found = queue.pop()
            if found is not None:
                popped.append(found.key)
            elif last:
                return

    threads = [threading.Thread(target=pop) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(6_000):
        queue.push(branch(str(i), 0 if i < 2_000 else i % 7 - 3))
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(popped, key=int) == [str(i) for i in range(6_000)]
    assert len(queue) == 0


def test_trimming_forgets_the_head_only_and_keeps_the_order():
    queue = Queue()
    branches = [branch(str(i), i // 3) for i in range(6)]
    queue.push_levels(branches)
    branches[3].status = branches[4].status = Status.CANCELLED
    queue.trim()
    assert len(queue) == 4
    assert drain(queue) == ["5", "0", "1", "2"]


def tried(key, priority=0):
    """Return a branch that was begun before."""
    found = branch(key, priority)
    found.may_be_tried(Tries(Retry()))
    found.tries.begun = 1
    return found


def test_further_attempts_come_ahead_of_their_priority_in_the_order_in_which_they_fell_due():
    queue = Queue()
    for each in [branch("new"), branch("urgent", 1), branch("idle", -1)]:
        queue.push(each)
    for each in [tried("a"), tried("idle again", -1), tried("b"), tried("urgent again", 1)]:
        queue.push(each)
    queue.push(tried("c"))
    first = queue.pop()
    queue.put_back(first)
    queue.prune()
    expected = ["urgent again", "urgent", "a", "b", "c", "new", "idle again", "idle"]
    assert drain(queue) == expected


def test_what_is_put_back_while_the_first_priority_comes_is_not_lost():
    """As a thread may, which pops what is not for it at the moment in which priorities begin."""

    class Late(Queue):
        __slots__ = ()
        waits = True

        @property
        def _levels(self):
            found = Queue._levels.__get__(self)
            if found is None and not Late.waits:  # asked by put_back: now the loop goes over
                Late.waits = True
                self.push(branch("urgent", 5))
                return None
            return found

        @_levels.setter
        def _levels(self, levels):
            Queue._levels.__set__(self, levels)

    queue = Late()
    for key in "abc":
        queue.push(branch(key))
    first = queue.pop()
    Late.waits = False
    queue.put_back(first)
    assert len(queue) == 4
    assert drain(queue) == ["urgent", "a", "b", "c"]
