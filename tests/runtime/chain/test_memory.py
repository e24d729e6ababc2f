"""Memory: large batches, processes that are short of it, and long runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Every measurement has a process of its own: what other tests freed would hide what is kept here.
SETUP = """
import gc, json, os, resource, sys
import numpy as np
from effbert.runtime import Session
from effbert.runtime.errors import InputError, ResourceError

bundle = sys.argv[1]
small = {"input_ids": [[2, 5, 6, 3]]}

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
"""


def measured(code: str, bundle: Path) -> dict[str, Any]:
    """What a process that runs `code` prints as JSON."""
    command = [sys.executable, "-c", SETUP + code, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LIMITED = """
session = Session(bundle, threads=1, max_batch_tokens=1 << 30)
expected = session.run(small).logits
seen = {"answered": 0, "refused": 0, "halved": 0}
run = session._chains.default.run

def counted(*arguments, **options):
    try:
        run(*arguments, **options)
    except (ResourceError, MemoryError):
        seen["halved"] += 1
        raise

session._chains.default.run = counted
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (64 << 20),) * 2)
for rows in np.geomspace(1000, 300_000, 16).astype(int):
    try:
        result = session.run({"input_ids": np.full((rows, 32), 5, np.uint8)})
        assert (result.logits == result.logits[0]).all()
        seen["answered"] += 1
    except ResourceError:
        seen["refused"] += 1
    assert (session.run(small).logits == expected).all()
print(json.dumps(seen))
"""


def test_a_process_short_of_memory_halves_then_refuses_and_goes_on(pristine: Path) -> None:
    seen = measured(LIMITED, pristine)
    assert seen["answered"] >= 4
    assert seen["halved"] >= 1
    assert seen["refused"] >= 1


LONG_RUN = """
generator = np.random.default_rng(0)
session = Session(bundle, threads=1)
kept = []

def call(index):
    ids = generator.integers(0, 50, (1 + index % 5, 2 + index % 31))
    session.run({"input_ids": ids}, knobs={"threshold": index % 3 / 2})
    if index % 10 == 0:
        session(["good film", "bad"])
    if index % 17 == 0:
        try:
            session.run({"input_ids": [[1]]})
        except InputError:
            pass

def growth(work, calls):
    before = resident()
    for index in range(calls):
        work(index)
    return resident() - before

growth(call, 1000)
healthy = growth(call, 3000)
leaking = growth(lambda index: kept.append((call(index), os.urandom(2048))), 3000)
print(json.dumps({"healthy": healthy, "leaking": leaking}))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_calls(pristine: Path) -> None:
    megabytes = measured(LONG_RUN, pristine)
    assert megabytes["healthy"] < 2
    assert megabytes["leaking"] > 4, "the measurement does not see a planted leak"


OPEN_AND_CLOSE = """
def things():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

def call():
    with Session(bundle, threads=2) as session:
        session.run(small)

for _ in range(8):
    call()
before, held = resident(), things()
for _ in range(25):
    call()
print(json.dumps({"growth": resident() - before, "same": things() == held}))
"""


def test_sessions_that_are_closed_leave_nothing(pristine: Path) -> None:
    seen = measured(OPEN_AND_CLOSE, pristine)
    assert seen["growth"] < 5
    assert seen["same"], "descriptors or threads are left"


ONE_LARGE_BATCH = """
session = Session(bundle, threads=1, max_batch_tokens=1 << 20)
session.run(small)
before = resident()
session.run({"input_ids": np.full((30_000, 32), 5)})
for _ in range(20):
    session.run(small)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps({"peak": peak - before, "stays": resident() - before}))
"""


def test_one_large_batch_does_not_stay_in_memory(pristine: Path) -> None:
    megabytes = measured(ONE_LARGE_BATCH, pristine)
    assert megabytes["peak"] > 100
    assert megabytes["stays"] < megabytes["peak"] / 3
