"""Every kind of bundle builds for every kind of device; pairs of choices, not all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from effbert.runtime import Bundle
from effbert.runtime.compile.compiling import CompileOptions, compile_bundle
from effbert.runtime.compile.profiles import read_profile

pytest.importorskip("tensorrt_rtx")
pytestmark = pytest.mark.slow

MODERN = "sm80,sm86,sm89,sm120"
TURING = f"sm75,{MODERN}"
MATRIX = [
    *(("exits", compute, MODERN) for compute in ("fp32", "bf16")),
    *(("exits-22", compute, MODERN) for compute in ("fp32", "bf16")),
    *(("lengths", compute, MODERN) for compute in ("fp32", "bf16")),
    *(("int8", compute, MODERN) for compute in ("fp32", "bf16")),
    *(("exits", "fp16", TURING), ("exits-22", "fp16", TURING), ("lengths", "fp16", TURING)),
    *(("lengths-22", "fp16", TURING), ("lengths-plain", "fp16", TURING)),
    *(("padded-lengths", "fp32", MODERN), ("retention", "bf16", MODERN)),
    *(("int8", "fp16", TURING), ("int8-22", "fp16", MODERN), ("lengths-int8", "fp16", TURING)),
    *(("int8-weight", "fp16", TURING), ("int8-weight", "bf16", MODERN)),
    *(("int4-weight", "fp16", MODERN), ("int4-weight", "fp32", MODERN)),
    *(("fp16", "fp16", TURING), ("fp16", "fp32", MODERN), ("bf16", "fp16", TURING)),
    *(("bf16", "bf16", MODERN), ("albert", "fp16", TURING), ("albert", "fp32", MODERN)),
    *(("pabee-bert", "fp16", TURING), ("pabee-bert", "fp32", MODERN)),
    *(("elbert-bias-1", "fp32", MODERN), ("berxit-learned", "fp16", TURING)),
    *(("berxit-entropy", "bf16", MODERN), ("act", "fp16", TURING), ("act", "fp32", MODERN)),
    *(("dynabert", "fp16", TURING), ("cascadebert-3", "bf16", MODERN)),
    *(("cascadebert-3", "fp16", TURING), ("tokee", "fp32", MODERN), ("tokee", "fp16", TURING)),
    *(("sentee", "bf16", MODERN),),
    *(("gpfee-bert", "fp16", TURING), ("fastbert-pypi", "bf16", MODERN)),
    *(("sledgehammer", "fp16", TURING), ("elasticbert", "fp32", MODERN)),
]


IDS = ["-".join(row).replace(",", "+") for row in MATRIX]


@pytest.mark.parametrize("name, compute, targets", MATRIX, ids=IDS)
def test_every_segment_builds(
    small_bundle: Callable[[str], Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    compute: str,
    targets: str,
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    bundle = small_bundle(name)
    limits = bundle.manifest.limits
    longest = min(limits.max_length, 48)
    profile = read_profile(f"1x{limits.min_length},8x{min(24, longest)},32x{longest}")
    options = CompileOptions(
        compute=compute,
        targets=targets.split(","),
        profiles=[profile],
        output=tmp_path / "plans",
    )
    compiled = compile_bundle(bundle, options)
    chains = [bundle.manifest.segments, *(v.segments for v in bundle.manifest.variants)]
    files = {segment.file for segments in chains for segment in segments}
    assert {plan.file for plan in compiled.index.segments} == files
    assert all(built.peak < 1_000_000_000 for built in compiled.built)
