"""Engines with plans from folder to answers, on fakes of CUDA and TensorRT-RTX."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import plan_folders
from effbert.runtime import (
    Bundle,
    EffbertWarning,
    EngineError,
    InputError,
    MissingDependencyError,
    ResourceError,
    Session,
)
from effbert.runtime.checks.replay import validate
from effbert.runtime.commands import effbert
from effbert.runtime.errors import PlanError
from fake_gpu import Code, Gpu
from small_bundles import some_inputs
from variant_bundle import COMBINATIONS, build_variant_bundle

INPUTS = {"input_ids": np.array([[2, 9, 10, 11, 3], [2, 30, 31, 32, 3]])}
NAME = "tensorrt-rtx"
WARNED = pytest.mark.filterwarnings("ignore::effbert.runtime.errors.EffbertWarning")


@WARNED
def test_plans_answer_as_the_bundle_does(gpu: Gpu, tiny: Path, compiled: Path) -> None:
    with Session(tiny, "onnxruntime") as usual, Session(tiny, NAME, plans=compiled) as session:
        for threshold in (0.0, 0.7, 2.0):
            expected = usual.run(INPUTS, {"threshold": threshold})
            found = session.run(INPUTS, {"threshold": threshold})
            np.testing.assert_array_equal(found.exit_index, expected.exit_index)
            np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)
        assert session.mode.reason == "plans are chained on the device"
        assert session._engine.limits.rows == 64
    assert not gpu.cuda.memory
    assert not gpu.cuda.pinned


@WARNED
def test_scratch_is_shared_and_graphs_are_captured(gpu: Gpu, tiny: Path, compiled: Path) -> None:
    with Session(tiny, NAME, plans=compiled) as session:
        session.run(INPUTS)
        contexts = [engine.contexts for engine in gpu.tensorrt.engines]
        assert [len(each) for each in contexts] == [1, 1, 1]
        assert len({each[0].memory for each in contexts}) == 1
        for engine in gpu.tensorrt.engines:
            [config] = engine.configs
            assert config.cuda_graph_strategy == gpu.tensorrt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE


@WARNED
def test_a_call_of_known_shapes_binds_nothing_anew(gpu: Gpu, tiny: Path, compiled: Path) -> None:
    """So that graphs that were captured find the addresses that they know."""
    with Session(tiny, NAME, plans=compiled) as session:
        expected = session.run(INPUTS).logits
        contexts = [engine.contexts[0] for engine in gpu.tensorrt.engines]
        session.run(INPUTS)
        bound = [context.bound for context in contexts]
        np.testing.assert_array_equal(session.run(INPUTS).logits, expected)
        assert [context.bound for context in contexts] == bound
        session.run({"input_ids": INPUTS["input_ids"][:1]})
        assert all(c.bound > before for c, before in zip(contexts, bound, strict=True))


@WARNED
def test_every_variant_has_plans_of_its_own(gpu: Gpu, own_folders: None, tmp_path: Path) -> None:
    build_variant_bundle(tmp_path / "bundle", tmp_path)
    bundle = tmp_path / "bundle"
    plans = plan_folders.write_plans(bundle, tmp_path / "plans")
    with Session(bundle, "onnxruntime") as usual, Session(bundle, NAME, plans=plans) as session:
        for knobs in COMBINATIONS:
            expected, found = usual.run(INPUTS, knobs), session.run(INPUTS, knobs)
            np.testing.assert_array_equal(found.exit_index, expected.exit_index)
            np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)
    assert not gpu.cuda.memory


# Row independence


def test_a_session_warns_until_validate_has_measured(gpu: Gpu, tiny: Path, compiled: Path) -> None:
    with pytest.warns(EffbertWarning, match="nobody has measured"):
        Session(tiny, NAME, plans=compiled).close()
    result = validate(tiny, engine=NAME, where={"plans": compiled})
    assert result.rows_apart is not None
    assert result.rows_apart < 1e-5
    with Session(tiny, NAME, plans=compiled, strict=True) as session:
        assert session.row_independence == "exact"
    [kept] = json.loads((compiled / "rows.json").read_text())
    assert kept["gpu"] == "A fake GPU"
    gpu.cuda.cudaDriverGetVersion = lambda: (Code.cudaSuccess, 14000)  # another driver
    with pytest.warns(EffbertWarning, match="nobody has measured"):
        Session(tiny, NAME, plans=compiled).close()


def test_the_command_says_what_it_measured(gpu: Gpu, tiny: Path, compiled: Path) -> None:
    words = ["validate", str(tiny), "--engine", NAME, "--plans", str(compiled)]
    result = CliRunner().invoke(effbert, words)
    assert result.exit_code == 0, result.output
    assert "between a row alone and in a batch (measured now)" in result.stdout
    assert not result.stderr


def test_a_folder_that_cannot_be_written_is_no_failure_of_validate(
    gpu: Gpu, tiny: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.warns(EffbertWarning, match=r"rows\.json cannot be written \(Permission denied"):
        validate(tiny, engine=NAME, where={"plans": compiled})


# What is missing


@pytest.mark.parametrize("command", ["run", "validate", "inspect"])
def test_without_the_package_a_command_says_how_to_get_it(
    gpu: Gpu, tiny: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    words = [command, str(tiny), "--engine", NAME, *(["good"] if command == "run" else [])]
    result = CliRunner().invoke(effbert, words)
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "Error: Engine 'tensorrt-rtx' needs tensorrt_rtx, which cannot be imported ("
    )
    assert result.stderr.endswith('install it with: pip install "effbert[tensorrt-rtx]".\n')


def test_without_cuda_bindings_the_install_line_is_told(
    gpu: Gpu, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingDependencyError, match=r"cuda-bindings, .*effbert\[tensorrt-rtx\]"):
        Session(tiny, NAME)


@pytest.mark.parametrize(
    "code, count, reason",
    [
        (Code.cudaErrorInsufficientDriver, 1, "cudaErrorInsufficientDriver, what 35 means"),
        (Code.cudaSuccess, 0, "no GPU was found"),
    ],
)
def test_without_a_driver_or_a_gpu_there_is_a_way_out(
    gpu: Gpu, tiny: Path, code: Code, count: int, reason: str
) -> None:
    gpu.cuda.fails["cudaGetDeviceCount"], gpu.cuda.gpus = code, count
    with pytest.raises(EngineError) as caught:
        Session(tiny, NAME)
    assert str(caught.value) == (
        f"Plans run on a GPU of NVIDIA, and CUDA cannot use one here ({reason}); install or update "
        "NVIDIA's driver, or choose an engine for the CPU: --engine onnxruntime."
    )


def test_without_plans_the_command_that_makes_them_is_told(gpu: Gpu, tiny: Path) -> None:
    with pytest.raises(
        PlanError, match=r"no plans .* effbert compile BUNDLE --engine tensorrt-rtx"
    ):
        Session(tiny, NAME)


@pytest.mark.parametrize(
    "device, message",
    [
        ("cpu", "computes on GPUs of NVIDIA, got device 'cpu', expected 'cuda' or 'cuda:N'"),
        ("cuda:1", r"no device 'cuda:1': this machine has 1 GPU\(s\)"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    gpu: Gpu, tiny: Path, device: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Session(tiny, NAME, device=device)


@WARNED
def test_a_fallback_stands_in_with_a_warning_and_never_in_silence(
    gpu: Gpu, tiny: Path, compiled: Path
) -> None:
    gpu.cuda.gpus = 0
    with pytest.warns(EffbertWarning, match=r"no GPU was found.*the engine onnxruntime runs"):
        session = Session(tiny, NAME, plans=compiled, fallback="onnxruntime")
    with session:
        assert session.engine == "onnxruntime"
    gpu.cuda.gpus = 1
    with Session(tiny, NAME, plans=compiled, fallback="onnxruntime") as session:
        assert session.engine == NAME
        gpu.cuda.fails["cudaMemcpyAsync"] = Code.cudaErrorIllegalAddress
        with pytest.raises(EngineError, match="could not copy to the GPU: cudaErrorIllegalAddress"):
            session.run(INPUTS)


def test_the_fallback_of_a_command_warns_on_stderr(gpu: Gpu, tiny: Path) -> None:
    words = ["run", str(tiny), "good", "--engine", NAME, "--fallback", "onnxruntime"]
    result = CliRunner().invoke(effbert, words)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("Warning: There are no plans of this bundle for tensorrt-rtx")
    strict = CliRunner().invoke(effbert, [*words, "--strict"])
    assert strict.exit_code != 0
    assert "There are no plans" in strict.stderr


# What the library refuses


def test_no_byte_of_a_plan_that_is_not_trusted_reaches_the_library(
    gpu: Gpu, tiny: Path, tmp_path: Path
) -> None:
    folder = plan_folders.write_plans(tiny, tmp_path / "foreign", trusted=False)
    with pytest.raises(PlanError, match="was not built on this machine"):
        Session(tiny, NAME, plans=folder)
    assert not gpu.tensorrt.seen


def test_a_plan_that_the_library_calls_invalid_is_refused_with_its_reasons(
    gpu: Gpu, tiny: Path, compiled: Path
) -> None:
    gpu.tensorrt.validity = (2, 3)
    with pytest.raises(EngineError, match=r"segment-00\.onnx does not run here \(version mismatch"):
        Session(tiny, NAME, plans=compiled)
    assert [len(seen) for seen in gpu.tensorrt.seen] == [64]


@pytest.mark.filterwarnings("ignore:With tensorrt-rtx")
def test_a_plan_that_is_slower_here_is_warned_of_or_refused(
    gpu: Gpu, tiny: Path, compiled: Path
) -> None:
    gpu.tensorrt.validity = (1, 2)
    with pytest.warns(EffbertWarning, match=r"slower on this GPU .*\(unsupported cc\)"):
        Session(tiny, NAME, plans=compiled).close()
    with pytest.raises(EngineError, match="unsupported cc"):
        Session(tiny, NAME, plans=compiled, strict=True)


@pytest.mark.parametrize(
    "function, message",
    [
        ("deserialize_cuda_engine", "could not open the plan of segment-00.onnx: the plan is odd;"),
        ("create_execution_context", "make the plan of segment-00.onnx ready: no kernels."),
        ("set_optimization_profile_async", "refused profile 0 for the plan of segment-00.onnx"),
        ("set_input_shape", "refused threshold of"),
        ("set_tensor_address", "refused threshold for the plan"),
        ("shapes", "work out the shapes of segment-00.onnx: shape inference failed in a node."),
        ("infer_shapes", "inputs that were not bound: something"),
        ("get_tensor_shape", "of an extent that only the data says"),
        ("execute_async_v3", "refused a launch for the plan of segment-00.onnx: execute_async_v3."),
    ],
)
def test_every_soft_failure_is_one_sentence_and_leaves_nothing(
    gpu: Gpu, tiny: Path, compiled: Path, function: str, message: str
) -> None:
    gpu.tensorrt.refuses.add(function)
    with pytest.raises(EngineError, match=message.replace("(", r"\(")) as caught:
        Session(tiny, NAME, plans=compiled)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    del caught
    assert not gpu.cuda.memory
    assert not gpu.cuda.pinned


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaMallocHost"])
def test_memory_of_the_gpu_that_ran_out_is_a_resource_error(
    gpu: Gpu, tiny: Path, compiled: Path, function: str
) -> None:
    gpu.cuda.fails[function] = Code.cudaErrorMemoryAllocation
    with pytest.raises(ResourceError, match="The GPU's memory ran out: could not"):
        Session(tiny, NAME, plans=compiled)


# Kernels that were compiled here


@WARNED
def test_kernels_are_kept_for_the_next_process(gpu: Gpu, tiny: Path, compiled: Path) -> None:
    Session(tiny, NAME, plans=compiled).close()
    assert not gpu.tensorrt.restored
    Session(tiny, NAME, plans=compiled).close()
    assert gpu.tensorrt.restored == [gpu.tensorrt.kernels] * 3
    gpu.tensorrt.restored.clear()
    gpu.cuda.cudaDriverGetVersion = lambda: (Code.cudaSuccess, 14000)
    Session(tiny, NAME, plans=compiled).close()
    assert not gpu.tensorrt.restored


@WARNED
def test_kernels_that_calls_needed_are_kept_when_the_session_is_closed(
    gpu: Gpu, tiny: Path, compiled: Path
) -> None:
    session = Session(tiny, NAME, plans=compiled)
    gpu.tensorrt.kernels = b"more kernels"
    session.close()
    Session(tiny, NAME, plans=compiled).close()
    assert gpu.tensorrt.restored == [b"more kernels"] * 3


@WARNED
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_kernels_that_others_may_write_are_not_read(
    gpu: Gpu, tiny: Path, compiled: Path, tmp_path: Path
) -> None:
    Session(tiny, NAME, plans=compiled).close()
    for path in (tmp_path / "cache" / "effbert" / "kernels").iterdir():
        path.chmod(0o666)
    Session(tiny, NAME, plans=compiled).close()
    assert not gpu.tensorrt.restored


@WARNED
def test_extents_are_read_from_memory_of_the_host(
    gpu: Gpu, own_folders: None, small_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    bundle = small_bundle("lengths")
    plans = plan_folders.write_plans(bundle.path, tmp_path / "plans")
    inputs = some_inputs(bundle)
    with (
        Session(bundle, "onnxruntime", threads=1) as usual,
        Session(bundle, NAME, plans=plans) as session,
    ):
        for lengths in ([20, 11, 3], [20, 11, 3], [0.9, 0.5, 0.3], [20, 20, 20]):
            expected = usual.run(inputs, {"lengths": lengths})
            found = session.run(inputs, {"lengths": lengths})
            np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)


@WARNED
def test_a_session_that_is_pickled_opens_the_same_plans(
    gpu: Gpu, tiny: Path, compiled: Path
) -> None:
    with Session(tiny, NAME, plans=compiled, device="cuda:0") as session:
        expected = session.run(INPUTS)
        data = pickle.dumps(session)
    with pickle.loads(data) as again:
        assert again.engine == NAME
        np.testing.assert_array_equal(again.run(INPUTS).logits, expected.logits)
