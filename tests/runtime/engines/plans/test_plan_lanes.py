"""Several calls on the chain of plans at once, closing it, and forks."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import plan_chains
from effbert.runtime import RunError, Session
from numpy_device import NumpyContext
from plan_chains import device_of, lanes_of, rows, same


@pytest.mark.parametrize("most", [1, 3])
def test_eight_threads_get_the_answers_of_one(
    deep: Path, plans: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_chains.NumpyPlans, "lanes", most)
    work = [(rows(1 + k % 5, 4 + k % 9, k), {"patience": k % 4}) for k in range(24)]
    with Session(deep, plans) as session:
        serial = [session.run(*item) for item in work]
        with ThreadPoolExecutor(8) as pool:
            found = [*pool.map(lambda item: session.run(*item), work * 3)]
        assert all(same(one, serial[k % len(work)]) for k, one in enumerate(found))
        assert len(lanes_of(session)) <= most


def test_a_call_waits_where_memory_is_missing_for_another_lane(
    deep: Path, plans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session(deep, plans) as session:
        expected = session.run(rows(2))
        device = device_of(session)
        device.memory = sum(block.nbytes for block in device.blocks.values()) + 1000
        launch = NumpyContext.launch

        def slow(self: NumpyContext, *others: Any) -> None:
            time.sleep(0.005)
            launch(self, *others)

        monkeypatch.setattr(NumpyContext, "launch", slow)
        with ThreadPoolExecutor(3) as pool:
            assert all(same(one, expected) for one in pool.map(session.run, [rows(2)] * 6))
        assert len(lanes_of(session)) == 1


def test_closing_waits_for_a_call_and_frees_everything(
    deep: Path, plans: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(deep, plans)
    device, launch = device_of(session), NumpyContext.launch
    running, go_on = threading.Event(), threading.Event()

    def held(self: NumpyContext, *others: Any) -> None:
        running.set()
        assert go_on.wait(10)
        launch(self, *others)

    monkeypatch.setattr(NumpyContext, "launch", held)
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(session.run, rows(2))
        assert running.wait(10)
        closing = pool.submit(session.close)
        time.sleep(0.05)
        assert not closing.done()
        assert device.blocks
        go_on.set()
        assert call.result().exit_index.tolist() == [5, 5]
        closing.result()
    assert not device.blocks
    assert not device.pinned


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_frees_nothing_and_says_where_to_open(session: Session) -> None:
    expected = session.run(rows(2))
    device = device_of(session)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            blocks = len(device.blocks)
            try:
                session.run(rows(2))
            except RunError as error:
                session.close()
                session._chains.default.close()
                code = 0 if "after the fork" in str(error) and len(device.blocks) == blocks else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert same(session.run(rows(2)), expected)


def test_a_call_that_ended_runs_nothing_more(session: Session) -> None:
    call = session._chains.default._segments.begin()
    call.end()
    call.end()
    assert len(lanes_of(session)) == 1
    with pytest.raises(RunError, match="This call has ended"):
        call.run(0, 1, {}, session._knobs.merged(None))
