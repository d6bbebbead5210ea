"""The queue: most urgent first, first come first among equals."""

import random

from anabranch._branch import PLAIN, Branch
from anabranch._queue import Queue
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
