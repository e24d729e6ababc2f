"""DynaBERT, and `--widths` and `--depths`: several sizes of a model in one bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.encoders.sizes import cut_variants, layers_at, size_notes, width_at
from effbert.exporter.formats import plain
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime import Session
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.checks.replay import validate
from effbert.runtime.errors import InputError
from exit_checks import LOGITS_ATOL, batch, pad_id
from export_command import run_command, sentence
from families import check_minimal_host, write_family
from systems.compressed_checkpoint import write_pruned
from systems.compressed_reference import check_answers, torch_difference
from systems.dynabert_reference import dynabert_reference
from systems.edits import claims
from vocabularies import random_rows

ROWS = list(random_rows("bert", 40))
TASK = "text-classification"
TRAINED = {
    "output_attentions": True,
    "output_hidden_states": True,
    "output_intermediate": True,
}
SIZES = [(width, depth) for width in (1, 0.75) for depth in (1, 0.5)]


def write_full(folder: Path, layers: int = 4, **config: Any) -> Path:
    """A BERT or RoBERTa of full width, four heads and 64 neurons a layer."""
    return write_pruned(folder, heads=(4,) * layers, neurons=(64,) * layers, **config)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Path, Session]]:
    @cache
    def make() -> tuple[Path, Session]:
        folder = tmp_path_factory.mktemp("dynabert")
        write_full(folder / "c", layers=2, **TRAINED)
        export(folder / "c", folder / "bundle", widths="0.75,1", depths="1,0.5")
        return folder / "c", Session(folder / "bundle", threads=1)

    return make


class Sized:
    """A session that answers with one variant."""

    def __init__(self, session: Session, **knobs: float) -> None:
        self.bundle, self.session, self.knobs = session.bundle, session, knobs

    def run(self, inputs: dict[str, np.ndarray]) -> Any:
        return self.session.run(inputs, knobs=self.knobs)


@pytest.mark.parametrize("width, depth", SIZES)
def test_every_size_answers_as_the_part_cut_out_by_hand(
    exported: Callable, width: float, depth: float
):
    checkpoint, session = exported()
    reference = dynabert_reference(checkpoint, width, depth)
    check_answers(Sized(session, width=width, depth=depth), reference, ROWS)


def test_hosts_that_know_no_variants_run_the_largest(exported: Callable):
    checkpoint, session = exported()
    check_minimal_host(session)
    check_answers(session, dynabert_reference(checkpoint), ROWS)
    assert [exit_.layer for exit_ in session.exits] == [2]


def test_sizes_answer_differently(exported: Callable):
    _, session = exported()
    inputs = batch(ROWS, pad_id(session))
    answers = [session.run(inputs, knobs={"width": w, "depth": d}).logits for w, d in SIZES]
    for k, answer in enumerate(answers):
        assert all(np.abs(answer - other).max() > LOGITS_ATOL for other in answers[:k])


def test_every_variant_is_known_to_the_manifest_and_validated(exported: Callable):
    _, session = exported()
    manifest = session.bundle.manifest
    assert manifest.source.format == "dynabert"
    assert [knob.choices for knob in manifest.knobs] == [[0.75, 1], [0.5, 1]]
    assert [len(each.golden) for each in (manifest, *manifest.variants)] == [3, 1, 1, 1]
    assert validate(session.bundle.path, deep=True).rows == 6


@pytest.mark.parametrize("backbone", ["bert", "roberta"])
@pytest.mark.parametrize("old", [True, False])
def test_its_config_names_a_dynabert(tmp_path: Path, backbone: str, old: bool):
    checkpoint = write_full(tmp_path / "c", backbone=backbone, **TRAINED)
    if old:  # the first versions of transformers do not say what a model is
        config = json.loads((checkpoint / "config.json").read_text())
        del config["architectures"], config["model_type"]
        (checkpoint / "config.json").write_text(json.dumps(config))
    assert claims(checkpoint) == ["dynabert"]
    report = export(checkpoint, tmp_path / "bundle", dry_run=True)
    assert report.description.architecture == backbone
    note = report.notes[0]
    assert "--widths 0.25,0.5,0.75,1 --depths 0.5,0.75,1" in note


@pytest.mark.parametrize("architecture", ["SequenceClassification", "TokenClassification"])
@pytest.mark.parametrize("width, depth", [(1, 1), (0.75, 0.75), (0.3, 0.3)])
def test_a_plain_roberta_is_cut_by_the_same_rule(
    tmp_path: Path, architecture: str, width: float, depth: float
):
    checkpoint = write_full(tmp_path / "c", backbone="roberta", architecture=architecture)
    model = plain.load(open_checkpoint(checkpoint), LoadOptions())
    [cut], _ = cut_variants(model, [width], [depth])
    reference = dynabert_reference(checkpoint, width, depth)
    rows = list(random_rows("roberta", 10))
    assert torch_difference(cut, reference, rows) <= LOGITS_ATOL
    assert "expect worse answers" in size_notes(model.description, [width], [depth])[0]


@pytest.mark.parametrize(
    "depth, layers, kept",
    [
        (1, 12, range(12)),
        (0.75, 12, (0, 1, 2, 4, 5, 6, 8, 9, 10)),
        (0.5, 12, (0, 2, 4, 6, 8, 10)),
        (0.25, 12, (0, 4, 8)),
        (0.5, 24, range(0, 24, 2)),
        (0.75, 6, (0, 1, 2, 4)),
    ],
)
def test_depth_keeps_the_layers_that_the_paper_keeps(
    depth: float, layers: int, kept: Sequence[int]
):
    assert layers_at(depth, layers) == tuple(layer + 1 for layer in kept)


@pytest.mark.parametrize(
    "width, heads, rows, neurons",
    [
        (1, 12, 768, 3072),
        (0.75, 12, 576, 2304),
        (0.5, 12, 384, 1536),
        (0.25, 12, 192, 768),
        (0.25, 16, 256, 768),
        (0.375, 12, 256, 1024),  # 4.5 heads are 4
        (0.04, 12, None, None),
    ],
)
def test_width_keeps_whole_heads_and_neurons_in_proportion(
    width: float, heads: int, rows: int | None, neurons: int | None
):
    if rows is None:
        with pytest.raises(InputError, match=r"Width 0\.04 leaves none of 12 heads\."):
            width_at(width, heads, 64, 3072)
    else:
        assert width_at(width, heads, 64, 3072) == (rows, neurons)


@pytest.mark.slow
def test_what_variants_have_in_common_is_stored_once(tmp_path: Path):
    config = {"vocab_size": 2000, "num_hidden_layers": 2}
    write_family(tmp_path / "c", "bert", TASK, **config)
    export(tmp_path / "c", tmp_path / "bundle", widths=[1, 0.5], depths=[0.9, 1])
    manifest = Session(tmp_path / "bundle").bundle.manifest
    assert manifest.variants[0].segments == manifest.segments  # 0.9 of two layers are both
    hidden = open_checkpoint(tmp_path / "c").config["hidden_size"]
    embeddings = 4 * 2000 * hidden
    assert embeddings <= manifest.files[WEIGHTS_NAME].size < embeddings + (1 << 16)
    assert sum(name.endswith(".onnx") for name in manifest.files) == 2
    assert all(file.size < embeddings for name, file in manifest.files.items() if ".onnx" in name)


def test_weights_are_not_copied_to_be_cut(tmp_path: Path):
    model = plain.load(open_checkpoint(write_full(tmp_path / "c")), LoadOptions())
    owned = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    models, _ = cut_variants(model, [1, 0.5], [1, 0.5])
    for cut in models:
        found = {weight.untyped_storage().data_ptr() for weight in cut.parameters()}
        assert found <= owned


@pytest.mark.parametrize(
    "family, options, said",
    [
        ("bert", ("--widths", "0"), "--widths are shares above 0 and up to 1"),
        ("bert", ("--widths", "1.5"), "--widths are shares above 0 and up to 1"),
        ("bert", ("--depths", "half"), "--depths are shares above 0 and up to 1"),
        ("bert", ("--depths", "nan"), "--depths are shares above 0 and up to 1"),
        ("bert", ("--widths", ""), "--widths are shares above 0 and up to 1"),
        ("bert", ("--widths", "0.01"), "leaves none of"),
        ("bert", ("--depths", "0.2"), "leaves none of 2 layers"),
        ("bert", ("--widths", "0.5,1", "--length-adaptive"), "the knob `lengths` has one size"),
        ("distilbert", ("--widths", "0.5,1"), "A distilbert cannot be cut"),
        ("deebert", ("--depths", "0.5,1"), "A deebert checkpoint has exits"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_sentence(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    family: str,
    options: tuple[str, ...],
    said: str,
):
    if family == "deebert":
        write_deebert(tmp_path / "c")
    else:
        write_family(tmp_path / "c", family, TASK)
    outcome = run_command(capfd, tmp_path / "c", tmp_path / "bundle", *options)
    assert outcome.code == 2
    assert said in sentence(outcome)
    assert not (tmp_path / "bundle").exists()


def test_more_variants_than_a_bundle_holds_are_refused(tmp_path: Path):
    model = plain.load(open_checkpoint(write_full(tmp_path / "c")), LoadOptions())
    with pytest.raises(InputError, match="81 variants are more than the 64 allowed"):
        cut_variants(model, [k / 9 for k in range(1, 10)], [k / 9 for k in range(1, 10)])
