"""Bundles of lower precision, as `effbert-export --precision` writes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from checkpoints import write_deebert, write_pabee
from effbert.exporter import export
from effbert.exporter.options import PRECISIONS
from effbert.runtime import Session, open_bundle
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.checks.replay import validate
from effbert.runtime.engines import row_independence as rows
from effbert.runtime.engines.onnxruntime.engine import OnnxRuntimeChain
from effbert.runtime.engines.onnxruntime.joined import join_segments
from effbert.runtime.errors import InputError
from exit_checks import batch, pad_id
from export_command import contents, run_command, sentence
from matrices import slow_but
from separate_segments import keep_apart
from systems.compressed_checkpoint import write_pruned
from vocabularies import random_rows

LOWER = [precision for precision in PRECISIONS if precision != "fp32"]
LARGEST = {"fp16": 0.6, "bf16": 0.6, "int8": 0.4, "int8-weight": 0.5, "int4-weight": 0.4}
ROWS = [row for row in random_rows("bert", 30) if len(row) <= 40]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_deebert(tmp_path_factory.mktemp("c") / "c", hidden=128, layers=2)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    @cache
    def make(precision: str, *kept: str) -> Path:
        bundle = tmp_path_factory.mktemp("bundles") / precision
        export(checkpoint, bundle, precision=precision, min_agreement=0, keep_float=kept)
        return bundle

    return make


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def check_rows_alone(session: Session) -> None:
    """All exits say the same of a row alone and in batches of other rows and paddings."""
    fill = pad_id(session)
    padded = session.run_exits(batch(ROWS, fill=7, extra=5))["logits"]
    for i, row in enumerate(ROWS):
        alone = session.run_exits(batch([row], fill))["logits"][:, 0]
        pair = session.run_exits(batch([ROWS[-1 - i], row], fill))["logits"][:, 1]
        for other in (padded[:, i], pair):
            np.testing.assert_allclose(other, alone, rtol=0, atol=2e-6)


def in_integers(bundle: Path) -> set[str]:
    """Modules whose products read what was dequantized."""
    found = set()
    for file in bundle.glob("*.onnx"):
        nodes = onnx.load(file, load_external_data=False).graph.node
        wide = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        products = [node for node in nodes if node.op_type in ("MatMul", "Gemm")]
        found |= {n.name.rpartition("/")[0] for n in products if wide.issuperset(n.input[:2])}
    return found


@pytest.mark.parametrize("precision", slow_but(LOWER, "int8"))
def test_a_bundle_of_lower_precision(exported: Callable, precision: str):
    session = Session(exported(precision), threads=1)
    manifest = session.bundle.manifest
    assert manifest.precision == precision
    assert validate(exported(precision), deep=True).rows > 0
    assert size(exported(precision)) < LARGEST[precision] * size(exported("fp32"))
    parity = manifest.parity
    assert parity.atol is None
    assert 0.6 < parity.same_answers <= 1
    assert 0.6 < parity.same_decisions <= 1
    assert parity.decisions > 0
    assert 0 < max(map(float, parity.max_abs_diff)) < 3
    check_rows_alone(session)


def test_onnxruntime_leaves_no_product_of_int8_in_float(exported: Callable, tmp_path: Path):
    for file in exported("int8").glob("*.onnx"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / file.name)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(file, options)
        nodes = onnx.load(tmp_path / file.name).graph.node
        assert "DequantizeLinear" not in {node.op_type for node in nodes}


def test_products_of_int8_add_their_bias_in_one_graph(
    exported: Callable, monkeypatch: pytest.MonkeyPatch
):
    opened = open_bundle(exported("int8"))
    files = [opened.read(segment.file) for segment in opened.manifest.segments]
    joined = join_segments(opened.manifest, files, BytesIO(), "weights")
    assert joined.count(b"MatMulIntegerToFloat") == 4 * len(files)
    domains = [each.domain for each in onnx.ModelProto.FromString(joined).opset_import]
    assert sorted(domains) == ["", "com.microsoft"]
    inputs = {"input_ids": np.random.default_rng(0).integers(5, 60, (7, 12))}
    together = Session(opened)
    keep_apart(monkeypatch)
    apart = Session(opened)
    assert isinstance(together._chains.default._segments, OnnxRuntimeChain)
    for name, expected in apart.run_exits(inputs).items():
        np.testing.assert_array_equal(together.run_exits(inputs)[name], expected)


def test_modules_that_are_named_stay_in_float(exported: Callable):
    kept = ("encoder.layer.0", "exit.1.pooler")
    every = in_integers(exported("int8"))
    assert {"encoder.layer.0.output.dense", "exit.1.pooler", "main.pooler"} <= every
    left = {name for name in every if not name.startswith(kept)}
    assert in_integers(exported("int8", *kept)) == left < every


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--precision", "int9"], "'int9' is not one of 'fp32', "),
        (["--precision", "int8", "--keep-float", "ghost"], "ghost is no matrix product of this"),
        (["--precision", "fp16", "--keep-float", "main"], "has no meaning with --precision fp16"),
        (["--calibration", "texts.txt"], "--calibration belongs to --precision int8"),
        (["--precision", "int8", "--calibration", "no.txt"], "no.txt cannot be read: No such"),
        (["--precision", "int8", "--calibration", "no.csv"], "no.csv cannot be read: No such"),
        (["--precision", "int8", "--calibration", "other.csv"], "needs the column text"),
        (["--precision", "int4-weight", "--opset", "20"], "needs --opset 21 or more"),
        (["--precision", "int8", "--min-agreement", "1.1"], "a share from 0 to 1, got 1.1"),
        (["--precision", "int8", "--min-agreement", "nan"], "a share from 0 to 1, got nan"),
        (["--precision", "int8", "--min-agreement", "1"], "loses most"),
        (["--precision", "int4-weight", "--min-agreement", "1"], "Choose a higher precision"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
):
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("a good film\n")
    Path("other.csv").write_text("sentence,label\na good film,1\n")
    before = contents(tmp_path)
    outcome = run_command(capfd, checkpoint, tmp_path / "bundle", *arguments)
    assert said in sentence(outcome)
    assert outcome.code == 2
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_layers_that_share_weights_share_those_in_integers(tmp_path: Path):
    write_pabee(tmp_path / "c", backbone="albert", hidden=512, layers=3, tokenizer=None)
    export(tmp_path / "c", tmp_path / "bundle", precision="int8", min_agreement=0)
    assert (tmp_path / "bundle" / WEIGHTS_NAME).exists()
    assert size(tmp_path / "bundle") < 1.5 * size(tmp_path / "c") / 4
    check_rows_alone(Session(tmp_path / "bundle", threads=1))


@pytest.mark.slow
def test_every_variant_is_lowered(tmp_path: Path):
    write_pruned(tmp_path / "c", heads=(4, 4), neurons=(64, 64))
    export(tmp_path / "c", tmp_path / "bundle", widths="0.5,1", precision="int8", min_agreement=0)
    assert validate(tmp_path / "bundle", deep=True).rows > 1  # of both
    session = Session(tmp_path / "bundle", threads=1)
    assert len(session.bundle.manifest.variants) == 1
    assert session.bundle.manifest.parity.same_answers > 0.6
    check_rows_alone(session)


def test_rows_that_would_depend_on_each_other_are_asked_about(
    exported: Callable, monkeypatch: pytest.MonkeyPatch
):
    bundle = exported("int8")
    monkeypatch.setitem(rows.DIFFERENCES, ("onnxruntime", "int8"), math.inf)
    with pytest.raises(InputError, match="a row's answer depends on the rows beside it"):
        Session(bundle)
    assert Session(bundle, dependent_rows=True).run(batch(ROWS[:1])).logits.size


def test_calibration_texts_of_ones_own(checkpoint: Path, tmp_path: Path, exported: Callable):
    (tmp_path / "texts.csv").write_text("label,text\n1,a good film\n0,what a bad story\n")
    found = tmp_path / "bundle"
    options = {"precision": "int8", "calibration": tmp_path / "texts.csv", "min_agreement": 0}
    export(checkpoint, found, **options)
    name = "segment-00.onnx"
    assert (found / name).read_bytes() != (exported("int8") / name).read_bytes()
