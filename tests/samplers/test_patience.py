"""What may hang is asked once, for a limited time; real threads."""

import threading
import time

import pytest

from anabranch.samplers._patience import NoAnswerError, Patience


def test_an_answer_is_returned():
    assert Patience(lambda: 7).ask() == 7


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("its own"), OSError()])
def test_what_the_call_raises_is_raised(error):
    def fails():
        raise error

    with pytest.raises(type(error)) as caught:
        Patience(fails).ask()
    assert caught.value is error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_ends_programs_ends_none(error):
    def fails():
        raise error

    with pytest.raises(NoAnswerError, match="raised"):
        Patience(fails).ask()


def test_two_who_ask_at_once_share_an_answer():
    calls, looks, go_on = [], [], threading.Event()

    def call():
        calls.append(1)
        go_on.wait()
        return 7

    def clock():
        looks.append(1)  # once for the call, and once for each who asks
        return 0.0

    patience, answers = Patience(call, 30, clock), []
    threads = [threading.Thread(target=lambda: answers.append(patience.ask())) for _ in range(5)]
    for thread in threads:
        thread.start()
    while len(looks) < 1 + len(threads):
        time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join()
    assert (answers, calls) == ([7] * 5, [1])


@pytest.mark.slow
def test_while_a_call_hangs_there_is_no_answer_and_no_second_call():
    calls, go_on = [], threading.Event()

    def hangs():
        calls.append(1)
        go_on.wait()

    patience = Patience(hangs, limit=0.02)
    try:
        for _ in range(50):
            with pytest.raises(NoAnswerError, match="no answer for"):
                patience.ask()
        assert calls == [1]
    finally:
        go_on.set()


def test_no_thread_to_be_had_is_no_answer(monkeypatch):
    def refuses(thread):
        raise RuntimeError("can't start new thread")

    patience = Patience(lambda: 7)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuses)
        with pytest.raises(NoAnswerError, match="cannot be asked"):
            patience.ask()
    assert patience.ask() == 7


def test_it_does_not_wait_longer_than_it_must():
    began = time.monotonic()
    Patience(lambda: 7, limit=30).ask()
    assert time.monotonic() - began < 15
