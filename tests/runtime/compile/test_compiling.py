"""Bundles compiled with TensorRT-RTX: plans, index, trust, cache, and what fails."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from effbert.runtime import Bundle, open_bundle
from effbert.runtime.commands import effbert
from effbert.runtime.compile import children, worker
from effbert.runtime.compile.children import run_job
from effbert.runtime.compile.compiling import CompileOptions, compile_bundle, make_jobs
from effbert.runtime.compile.jobs import JOB, OUTCOME, Job, Outcome
from effbert.runtime.compile.profiles import read_profile, usual_profile
from effbert.runtime.engines.plans.found import Wanted, find_plans
from effbert.runtime.engines.plans.index import INDEX_NAME, read_index
from effbert.runtime.engines.plans.plan_store import store_folder
from effbert.runtime.engines.plans.trust import is_trusted, trust_folder
from effbert.runtime.errors import (
    CompileError,
    InputError,
    MissingDependencyError,
    PlanError,
    ResourceError,
)
from tiny_bundle import build_tiny_bundle

trt: Any = pytest.importorskip("tensorrt_rtx")
Small = Callable[[str], Bundle]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return open_bundle(build_tiny_bundle(tmp_path / "bundle", policy="patience"))


def job_of(bundle: Bundle, **changed: Any) -> Job:
    options = CompileOptions(compute="fp32")
    job = make_jobs(bundle, options, ["sm86"], [usual_profile(bundle.manifest)])[0]
    return msgspec.structs.replace(job, **changed)


def test_a_bundle_becomes_plans_that_a_session_would_find(tiny: Bundle, tmp_path: Path):
    steps: list[str] = []
    compiled = compile_bundle(
        tiny,
        CompileOptions(compute="fp16", output=tmp_path / "plans", leaving=0.5),
        lambda done, total, file: steps.append(f"{done}/{total} {file}"),
    )
    assert steps == [f"{k}/3 segment-0{k}.onnx" for k in range(3)]
    index = read_index(tmp_path / "plans")
    assert index == compiled.index
    assert (index.engine, index.compute) == ("tensorrt-rtx", "fp16")
    assert index.targets == ["sm80", "sm86", "sm89", "sm120"]
    assert index.flags == {"tf32": False}
    for plan in index.segments:
        data = (tmp_path / "plans" / plan.plan).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (plan.size, plan.plan_sha256)
        assert data[:4] == b"vtrt"
        assert is_trusted(plan.plan_sha256)
        assert plan.sha256 == tiny.manifest.files[plan.file].sha256
    later = {port.name: port for port in index.segments[1].inputs}
    assert later["hidden"].dtype == "float16"
    assert later["counter"].dtype == "int64"
    assert later["hidden"].rows == later["counter"].rows == "rows"
    assert index.segments[1].profiles[0]["batch"] == (1, 4, 32)
    assert all(0 < built.peak < 1_000_000_000 for built in compiled.built)
    wanted = Wanted("tensorrt-rtx", trt.__version__, "sm89")
    found = find_plans(tiny.manifest, wanted, tmp_path / "plans")
    assert [len(plan.read()) for plan in found.plans] == [plan.size for plan in index.segments]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bundle", "data", "plans"]


@pytest.mark.slow
def test_what_is_compiled_already_is_taken_from_the_cache(tiny: Bundle):
    first = compile_bundle(tiny, CompileOptions(targets=["sm86"]))
    again = compile_bundle(tiny, CompileOptions(targets=["sm86"]))
    assert len(first.built) == 3
    assert again.built == []
    assert again.folder == first.folder
    assert first.folder.parent == store_folder()
    (first.folder / "segment-01.plan").write_bytes(b"broken")
    repaired = compile_bundle(tiny, CompileOptions(targets=["sm86"]))
    assert len(repaired.built) == 3
    # TensorRT orders several outputs by their addresses, so bytes may differ, and sizes do not.
    sizes = [[plan.size for plan in each.index.segments] for each in (first, repaired)]
    assert sizes[0] == sizes[1]


def test_a_folder_with_something_in_it_is_left_alone(tiny: Bundle, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already; delete it"):
        compile_bundle(tiny, CompileOptions(output=tmp_path / "full"))
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_segment_that_cannot_be_built_leaves_nothing(tiny: Bundle, tmp_path: Path):
    options = CompileOptions(targets=["sm75", "sm86"], output=tmp_path / "plans")
    with pytest.raises(CompileError, match="SM75 has no products in float32; leave sm75 out"):
        compile_bundle(tiny, options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    assert not trust_folder().exists()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"compute": "fp8"}, "no compute precision 'fp8'"),
        ({"leaving": 1.0}, "share from 0 to 1"),
        ({"profiles": [read_profile("1x2,8x64,32x128")]}, "reads rows of 2 to 32 tokens"),
        ({"targets": ["sm90"]}, "does not build for 'sm90'"),
    ],
)
def test_options_that_do_not_fit_are_refused(tiny: Bundle, options: Any, words: str):
    with pytest.raises(InputError, match=words):
        compile_bundle(tiny, CompileOptions(**options))


@pytest.mark.parametrize(
    "code, error, words",
    [
        ("os.kill(os.getpid(), 9)", ResourceError, "was killed, most likely because the memory"),
        ("os.kill(os.getpid(), 11)", CompileError, "ended by signal 11; it last said: so far"),
        ("sys.exit(3)", CompileError, "ended with exit code 3; it last said: so far"),
        ("open('outcome.json', 'w').write('{')", CompileError, "with exit code 0"),
    ],
)
def test_a_child_that_ends_otherwise_is_one_sentence(
    tiny: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    error: type[Exception],
    words: str,
):
    monkeypatch.setattr(children, "MODULE", "ends")
    work = tmp_path / "work"
    work.mkdir()
    (work / "ends.py").write_text(f"import os, sys\nprint('so far', flush=True)\n{code}\n")
    with pytest.raises(error, match=words) as raised:
        run_job(job_of(tiny), work)
    assert "\n" not in str(raised.value)
    assert {path.name for path in work.iterdir()} - {"__pycache__"} == {"ends.py"}


@pytest.mark.parametrize(
    "error, kind, words",
    [
        (MemoryError(), "ResourceError", "memory is not enough to build segment-00.onnx"),
        (OSError(28, "No space left on device"), "ResourceError", "No space left"),
        (CompileError("It cannot be built."), "CompileError", "It cannot be built."),
    ],
)
def test_what_a_child_raises_reaches_its_parent(
    tiny: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: str,
    words: str,
):
    def fail(job: Job) -> Outcome:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "do_job", fail)
    Path(JOB).write_bytes(msgspec.json.encode(job_of(tiny)))
    worker.main()
    outcome = msgspec.json.decode(Path(OUTCOME).read_bytes(), type=Outcome)
    assert outcome.error == kind
    assert words in outcome.message


def test_a_segment_that_was_replaced_meanwhile_is_refused(tiny: Bundle, tmp_path: Path):
    (tmp_path / "work").mkdir()
    with pytest.raises(Exception, match="was replaced while it was compiled"):
        run_job(job_of(tiny, sha256="0" * 64), tmp_path / "work")


@pytest.mark.slow
def test_shared_weights_that_plans_copy_are_reported(tmp_path: Path):
    shared = open_bundle(build_tiny_bundle(tmp_path / "shared", shared_weights=True))
    compiled = compile_bundle(shared, CompileOptions(targets=["sm86"]))
    assert compiled.copies == (3, 2 * shared.manifest.files["weights.bin"].size)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(effbert, ["compile", *map(str, arguments)])


@pytest.mark.slow
def test_the_command_builds_adopts_and_says_what_is_where(tiny: Bundle, tmp_path: Path):
    plans = tmp_path / "plans"
    traffic = tmp_path / "calls.csv"
    traffic.write_text("batch,length,count\n1,16,90\n8,32,10\n")
    asked = ["--compute", "bf16", "--targets", "sm86", "--output", plans, "--traffic", traffic]
    result = run(tiny.path, *asked)
    assert result.exit_code == 0, result.output
    assert "building 1 of 3: segment-00.onnx" in result.output
    assert "3 plans with 2 profile(s)" in result.output
    assert "1x16,1x16,1x16\t90 %\t0 %" in result.output
    for path in trust_folder().iterdir():
        path.unlink()
    wanted = Wanted("tensorrt-rtx", trt.__version__, "sm86")
    with pytest.raises(PlanError, match="not built on this machine"):
        find_plans(tiny.manifest, wanted, plans).plans[0].read()
    result = run("--trust", plans)
    assert result.exit_code == 0, result.output
    assert "segment-02.plan" in result.output
    assert find_plans(tiny.manifest, wanted, plans).plans[0].read()


@pytest.mark.slow
def test_the_command_prints_json(tiny: Bundle):
    result = run(tiny.path, "--targets", "sm86", "--json")
    facts = json.loads(result.output)
    assert facts["reused"] is False
    assert len(facts["plans"]) == 3
    assert Path(facts["folder"], INDEX_NAME).exists()
    assert json.loads(run(tiny.path, "--targets", "sm86", "--json").output)["reused"] is True


@pytest.mark.slow
def test_check_lists_changes_and_problems(tiny: Bundle):
    good = run(tiny.path, "--check", "--compute", "fp16")
    assert good.exit_code == 0, good.output
    assert "Nothing was found that cannot be built." in good.output
    assert "carries taken by row" in good.output
    bad = run(tiny.path, "--check", "--targets", "sm75")
    assert bad.exit_code == 1
    assert "SM75 has no products in float32" in bad.output
    listed = json.loads(run(tiny.path, "--check", "--targets", "sm75", "--json").output)
    assert listed[0]["problems"]
    assert not store_folder().exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "BUNDLE is missing"),
        (["bundle", "--trust", "plans"], "leave BUNDLE out"),
        (["--trust", "nowhere"], "nowhere holds no engine.json"),
        (["bundle", "--profile", "1x8"], "is not three batches"),
        (["bundle", "--engine", "tensorrt"], 'pip install "effbert[tensorrt]"'),
        (["nowhere"], "There is no bundle at nowhere"),
    ],
)
def test_mistakes_are_one_sentence(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
):
    monkeypatch.chdir(tiny.path.parent)
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_interrupting_a_build_ends_the_child_and_leaves_nothing(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Child(children.subprocess.Popen):  # type: ignore[name-defined,type-arg,misc]
        def wait(self, timeout: float | None = None) -> int:
            if self.poll() is None and not interrupted:
                interrupted.append(self.pid)
                raise KeyboardInterrupt
            return super().wait(timeout)

    interrupted: list[int] = []
    monkeypatch.setattr(children.subprocess, "Popen", Child)
    with pytest.raises(KeyboardInterrupt):
        compile_bundle(tiny, CompileOptions(output=tmp_path / "plans"))
    with pytest.raises(ProcessLookupError):
        os.kill(interrupted[0], 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_what_prepares_graphs_is_an_extra(tiny: Bundle, monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'onnx_ir'", name="onnx_ir")

    monkeypatch.setattr(worker, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"onnx_ir.*pip install \"effbert\[compile\]"):
        worker.do_job(job_of(tiny))
