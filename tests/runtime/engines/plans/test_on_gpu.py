"""Everything that only a GPU can show: `pytest -m requires_gpu` on a machine that has one.

Plans are compiled for the GPU of this machine, with each engine whose library is installed and
that builds for it. Elsewhere all of it is skipped, with the reason.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.runtime import Bundle, EffbertWarning, InputError, Session
from effbert.runtime.checks.replay import validate
from effbert.runtime.compile.compiling import CompileOptions, compile_bundle
from effbert.runtime.compile.library import chooses_targets, known_targets, load_library
from effbert.runtime.engines.table import ENGINES
from small_bundles import some_inputs

pytestmark = [
    pytest.mark.requires_gpu,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::effbert.runtime.errors.EffbertWarning"),
]
COMPILED = ("tensorrt-rtx", "tensorrt")
# Largest difference of logits and signals to onnxruntime in float32 on the CPU.
CLOSE = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 2e-1}
LEVEL = 0.15  # of integers, which 16 bits may round to the next level
ALIKE = {"fp32": 1.0, "fp16": 0.95, "bf16": 0.9}  # least share of equal decisions
BATCHES = (1, 8, 32)
LENGTH = 64


class Setting(NamedTuple):
    """An engine, and a function that compiles a bundle for this GPU with it."""

    engine: str
    compile: Callable[[Bundle, str], Path]


@pytest.fixture(scope="module", params=COMPILED)
def setting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setting]:
    engine = request.param
    if find_spec(ENGINES[engine].library) is None:
        pytest.skip(f"{ENGINES[engine].library} is not installed")
    from effbert.runtime.engines.plans.cuda import CudaDevice

    library, target = load_library(engine), CudaDevice().capability
    if chooses_targets(library) and target not in known_targets(library):
        pytest.skip(f"{engine} does not build for {target.upper()}, the GPU of this machine")
    folder = tmp_path_factory.mktemp("plans")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

        def build(bundle: Bundle, compute: str) -> Path:
            options = CompileOptions(engine=engine, compute=compute, targets=[target])
            return compile_bundle(bundle, options).folder

        yield Setting(engine, build)


@pytest.fixture
def opened(setting: Setting) -> Callable[..., Session]:
    return partial(Session, engine=setting.engine)


NAMES = ["exits", "exits-22", "albert", "lengths", "padded-lengths", "int8", "int4-weight"]


@pytest.mark.parametrize("compute", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_every_exit_answers_as_on_the_cpu(
    name: str, compute: str, setting: Setting, small_bundle: Callable[[str], Bundle]
) -> None:
    bundle = small_bundle(name)
    plans, inputs = setting.compile(bundle, compute), some_inputs(bundle)
    close = max(CLOSE[compute], LEVEL if name.startswith("int") else 0)
    with (
        Session(bundle, "onnxruntime") as usual,
        Session(bundle, setting.engine, plans=plans) as session,
    ):
        expected, found = usual.run_exits(inputs), session.run_exits(inputs)
        for output, wanted in expected.items():
            np.testing.assert_allclose(found[output], wanted, atol=close, err_msg=output)


@pytest.mark.parametrize("compute", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", NAMES[:4])
def test_rows_leave_where_they_leave_on_the_cpu(
    name: str, compute: str, setting: Setting, small_bundle: Callable[[str], Bundle]
) -> None:
    bundle = small_bundle(name)
    plans = setting.compile(bundle, compute)
    lengths = np.random.default_rng(3).integers(4, 31, 64).tolist()
    inputs = some_inputs(bundle, seed=3, lengths=lengths)
    with (
        Session(bundle, "onnxruntime") as usual,
        Session(bundle, setting.engine, plans=plans) as session,
    ):
        signals = usual.run(inputs).signal
        whole = session.knobs["threshold"].dtype == "int64"
        values = (1, 2) if whole else np.quantile(signals, [0.2, 0.5, 0.8]).tolist()
        for value in values:
            expected = usual.run(inputs, {"threshold": value})
            found = session.run(inputs, {"threshold": value})
            clear = np.abs(expected.signal - value) > CLOSE[compute]
            same = found.exit_index == expected.exit_index
            assert same[clear].mean() >= ALIKE[compute] if clear.any() else True


def test_only_what_the_host_needs_crosses(
    setting: Setting, small_bundle: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    from effbert.runtime.engines.plans.cuda import CudaDevice

    crossed: list[tuple[int, int]] = []
    upload, download = CudaDevice.upload, CudaDevice.download

    def up(self: Any, address: int, source: np.ndarray, stream: int) -> None:
        crossed.append((address, source.nbytes))
        upload(self, address, source, stream)

    def down(self: Any, target: np.ndarray, address: int, stream: int) -> None:
        crossed.append((address, target.nbytes))
        download(self, target, address, stream)

    bundle = small_bundle("exits")
    with Session(bundle, setting.engine, plans=setting.compile(bundle, "fp16")) as session:
        inputs = some_inputs(bundle)
        session.run(inputs, {"threshold": 0.5})
        monkeypatch.setattr(CudaDevice, "upload", up)
        monkeypatch.setattr(CudaDevice, "download", down)
        session.run(inputs)
        [lane] = session._chains.default._segments._lanes._idle
        buffers = [*lane.carries._free, *lane.carries._used]
        assert buffers
        for address, size in crossed:
            for buffer in buffers:
                ends = buffer.address + buffer.size
                assert not (buffer.address < address + size and address < ends)
        assert len(crossed) == 2 * len(session.exits)


def test_calls_at_the_same_time_get_the_answers_of_one(
    setting: Setting, small_bundle: Callable[[str], Bundle]
) -> None:
    bundle = small_bundle("exits")
    with Session(bundle, setting.engine, plans=setting.compile(bundle, "fp16")) as session:
        work = [some_inputs(bundle, seed=k, lengths=[4 + k, 9, 20]) for k in range(12)]
        serial = [session.run(inputs, {"threshold": 0.6}) for inputs in work]
        with ThreadPoolExecutor(8) as pool:
            found = [*pool.map(lambda x: session.run(x, {"threshold": 0.6}), work * 4)]
        for k, one in enumerate(found):
            np.testing.assert_allclose(one.logits, serial[k % len(work)].logits, atol=2e-2)


def test_an_error_leaves_the_session_usable(
    setting: Setting, small_bundle: Callable[[str], Bundle]
) -> None:
    bundle = small_bundle("exits")
    with Session(bundle, setting.engine, plans=setting.compile(bundle, "fp32")) as session:
        expected = session.run(some_inputs(bundle))
        with pytest.raises(InputError):
            session.run({"input_ids": np.full((1, 4), 10**6)})
        again = session.run(some_inputs(bundle))
        np.testing.assert_array_equal(again.exit_index, expected.exit_index)


def test_validate_measures_the_rows_and_sessions_stop_to_warn(
    setting: Setting, small_bundle: Callable[[str], Bundle], recwarn: pytest.WarningsRecorder
) -> None:
    bundle = small_bundle("exits")
    plans = setting.compile(bundle, "fp16")
    result = validate(bundle.path, engine=setting.engine, where={"plans": plans})
    assert result.rows_apart is not None
    sys.stdout.write(f"\n{setting.engine}: rows {result.rows_apart:.1e} apart\n")
    recwarn.clear()
    with Session(bundle, setting.engine, plans=plans, strict=True) as session:
        assert "measured" not in session.row_independence
    assert not [w for w in recwarn if issubclass(w.category, EffbertWarning)]


def test_plans_and_kernels_are_found_again(
    setting: Setting, small_bundle: Callable[[str], Bundle]
) -> None:
    bundle = small_bundle("exits")
    plans = setting.compile(bundle, "fp32")
    before = {path: path.stat().st_mtime_ns for path in plans.iterdir() if path.suffix != ".json"}
    assert setting.compile(bundle, "fp32") == plans
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        with Session(bundle, setting.engine) as session:  # from the cache, without a folder
            session.run(some_inputs(bundle))
        seconds.append(time.perf_counter() - start)
    sys.stdout.write(f"\n{setting.engine}: opened in {seconds[0]:.2f} s, then {seconds[1]:.2f} s\n")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_plans_of_another_bundle_fall_back_with_a_warning(
    setting: Setting, small_bundle: Callable[[str], Bundle]
) -> None:
    plans = setting.compile(small_bundle("exits"), "fp32")
    other = small_bundle("exits-22")
    with pytest.warns(EffbertWarning, match="the engine onnxruntime runs the bundle"):
        session = Session(other, setting.engine, plans=plans, fallback="onnxruntime")
    with session:
        assert session.engine == "onnxruntime"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """A BERT of six layers with an exit after each, and the same with the last one alone."""
    from effbert.runtime import open_bundle

    folder = tmp_path_factory.mktemp("pair")
    checkpoint = write_deebert(folder / "checkpoint", layers=6, hidden=384, tokenizer="fast")
    export(checkpoint, folder / "chain")
    export(checkpoint, folder / "uncut", exits="6")
    return open_bundle(folder / "chain"), open_bundle(folder / "uncut")


def test_the_chain_against_one_uncut_engine(setting: Setting, pair: tuple[Bundle, Bundle]) -> None:
    """No row leaves: what is measured is the cost of the cuts."""
    sessions = [
        Session(bundle, setting.engine, plans=setting.compile(bundle, "fp16")) for bundle in pair
    ]
    longest = pair[0].manifest.limits.max_length
    for rows in BATCHES:
        ids = np.full((rows, min(LENGTH, longest)), 7)
        times = [[_milliseconds(session, ids) for session in sessions] for _ in range(15)]
        chain, uncut = np.median(times, axis=0)
        sys.stdout.write(
            f"\n{setting.engine}, {rows} x {ids.shape[1]}: chain {chain:.2f} ms, uncut "
            f"{uncut:.2f} ms, ratio {np.median([c / u for c, u in times]):.2f}\n"
        )
        assert uncut > 0
    for session in sessions:
        session.close()


def _milliseconds(session: Session, ids: np.ndarray, calls: int = 20) -> float:
    session.run({"input_ids": ids})
    start = time.perf_counter()
    for _ in range(calls):
        session.run({"input_ids": ids})
    return (time.perf_counter() - start) / calls * 1000
