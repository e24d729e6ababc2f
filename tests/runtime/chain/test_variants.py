"""Knobs with choices select a variant, which answers as if it were a bundle of its own."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bundle_edits import at, edit_manifest
from effbert.runtime import Session
from effbert.runtime.bundle.manifest import Manifest
from effbert.runtime.checks.replay import validate
from effbert.runtime.commands import effbert
from effbert.runtime.engines.onnxruntime.engine import OnnxRuntime
from effbert.runtime.errors import InputError, IntegrityError
from variant_bundle import COMBINATIONS, build_variant_bundle

INPUTS = {
    "input_ids": np.array([[2, 6, 11, 3, 0, 0], [2, 9, 9, 30, 31, 3]]),
    "attention_mask": np.array([[1, 1, 1, 1, 0, 0], [1] * 6]),
}
SMALL = {"width": 0.5, "depth": 1}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle` holds all variants; 0 to 3 hold one each."""
    folder = tmp_path_factory.mktemp("variants")
    build_variant_bundle(folder / "bundle", folder)
    return folder


@pytest.fixture
def bundle(parts: Path, tmp_path: Path) -> Path:
    return shutil.copytree(parts / "bundle", tmp_path / "bundle")


@pytest.mark.parametrize("k", range(4))
def test_a_variant_answers_like_a_bundle_of_its_own(parts: Path, k: int) -> None:
    with Session(parts / "bundle") as session, Session(parts / str(k)) as alone:
        for knobs in ({}, {"threshold": 1.0}, {"threshold": [0.9, 1.0, 0.0]}):
            found = session.run(INPUTS, knobs={**COMBINATIONS[k], **knobs})
            wanted = alone.run(INPUTS, knobs=knobs)
            np.testing.assert_array_equal(found.logits, wanted.logits)
            np.testing.assert_array_equal(found.exit_index, wanted.exit_index)
        exits = session.run_exits(INPUTS, knobs=COMBINATIONS[k])
        np.testing.assert_array_equal(exits["logits"], alone.run_exits(INPUTS)["logits"])
        texts = ["a very good film", "the plot was dull"]
        assert session(texts, knobs=COMBINATIONS[k]) == alone(texts)


@pytest.mark.parametrize("knobs, k", [({}, 0), ({"depth": 0.5}, 1), ({"width": 0.5}, 2)])
def test_a_selector_left_out_means_the_largest(parts: Path, knobs: dict[str, Any], k: int) -> None:
    with Session(parts / "bundle") as session, Session(parts / str(k)) as alone:
        np.testing.assert_array_equal(
            session.run(INPUTS, knobs=knobs).logits, alone.run(INPUTS).logits
        )


def test_a_variant_is_loaded_once_by_the_first_call_for_it(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    join = OnnxRuntime.join

    def counted(self: OnnxRuntime, manifest: Manifest, *data: Any) -> Any:
        loaded.extend(segment.file for segment in manifest.segments)
        return join(self, manifest, *data)

    monkeypatch.setattr(OnnxRuntime, "join", counted)
    with Session(parts / "bundle") as session:
        assert loaded == [f"segment-0{k}.onnx" for k in range(3)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: session.run(INPUTS, SMALL).logits, range(16)))
    assert loaded[3:] == [f"size-2-segment-0{k}.onnx" for k in range(3)]
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_an_operating_point_may_name_a_variant(bundle: Path) -> None:
    point = {"name": "small", "knobs": SMALL, "data": "none"}
    edit_manifest(bundle, at("operating_points", [point]))
    with Session(bundle, operating_point="small") as session, Session(bundle) as plain:
        found = session.run(INPUTS).logits
        np.testing.assert_array_equal(found, plain.run(INPUTS, knobs=SMALL).logits)
        largest = session.run(INPUTS, knobs={"width": 1}).logits
        np.testing.assert_array_equal(largest, plain.run(INPUTS).logits)


@pytest.mark.parametrize("value", [0.75, 0, 2, float("nan"), "0.5", [0.5, 0.5], True])
def test_another_size_is_refused(parts: Path, value: Any) -> None:
    with (
        Session(parts / "bundle") as session,
        pytest.raises(InputError, match=r"Knob 'width': got .*, expected one of 0\.5, 1\.$"),
    ):
        session.run(INPUTS, knobs={"width": value})


def test_a_combination_that_does_not_exist_is_refused_with_those_that_do(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest["variants"].pop())
    with (
        Session(bundle) as session,
        pytest.raises(
            InputError,
            match=r"no variant with width 0\.5, depth 0\.5; this bundle has: width 1, depth 1; "
            r"width 1, depth 0\.5; width 0\.5, depth 1\.$",
        ),
    ):
        session.run(INPUTS, knobs={"width": 0.5, "depth": 0.5})


def test_every_variant_is_validated(bundle: Path) -> None:
    found = validate(bundle, deep=True)
    assert found.rows == 12
    edit_manifest(bundle, at("variants.1.golden.0.outputs.logits.2.1", 5.0))
    with pytest.raises(IntegrityError, match=r"exit 2 \(size-2-segment-02\.onnx\) differs"):
        validate(bundle)


def test_a_damaged_variant_is_found_when_it_is_first_used(bundle: Path) -> None:
    file = bundle / "size-2-segment-01.onnx"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with Session(bundle) as session:
        session.run(INPUTS)
        with pytest.raises(IntegrityError, match=r"size-2-segment-01\.onnx is damaged"):
            session.run(INPUTS, knobs=SMALL)


def test_the_commands_know_variants(parts: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(effbert, ["inspect", str(parts / "bundle")])
    assert shown.exit_code == 0, shown.output
    assert "width 0.5, depth 1" in shown.output
    arguments = ["run", str(parts / "bundle"), "a good film", "--json"]
    chosen = runner.invoke(effbert, [*arguments, "--knob", "width=0.5", "--knob", "depth=1"])
    alone = runner.invoke(effbert, ["run", str(parts / "2"), "a good film", "--json"])
    assert chosen.exit_code == 0, chosen.output
    assert chosen.output == alone.output
    wrong = runner.invoke(effbert, [*arguments, "--knob", "width=0.3"])
    assert wrong.exit_code == 2
