"""What the passes find in real exports: a change here means that a fusion stopped matching.

Counts are of two layers, ALBERT's of four and ModernBERT's of three. MPNet, DeBERTa-v2 and
ModernBERT attend with relative positions or rotations, which `Attention` does not take.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.formats import choose_format
from effbert.exporter.options import ExportOptions
from effbert.exporter.plan import make_plan
from effbert.exporter.segments import BuiltModel, build_models
from families import write_family
from matrices import slow_but


class Counts(NamedTuple):
    """What the passes change in a model with one exit."""

    attentions: int
    fused: int
    biases: int
    reshapes: int
    residuals: int
    first_token: int = 1
    equal_weights: int = 0


BERT = Counts(attentions=2, fused=2, biases=4, reshapes=8, residuals=5)
EXPECTED = {
    "bert": BERT,
    "roberta": BERT,
    "distilbert": BERT,
    "electra": BERT,
    "albert": Counts(4, fused=4, biases=8, reshapes=16, residuals=9, equal_weights=6),
    "mpnet": Counts(2, fused=0, biases=0, reshapes=8, residuals=5),
    "deberta-v2": Counts(2, fused=0, biases=0, reshapes=8, residuals=4),
    "modernbert": Counts(3, fused=0, biases=0, reshapes=6, residuals=6),
}


def built(folder: Path, family: str, opset: int) -> BuiltModel:
    write_family(folder, family, "text-classification")
    opened = open_checkpoint(folder)
    found = choose_format("auto", opened.name, opened.shapes, opened.config)
    models, plan = make_plan(opened, found, ExportOptions(opset=opset))
    [model] = build_models(models, plan, opset, lambda phrase: None)
    return model


def counts(model: BuiltModel) -> Counts:
    [segment] = model.segments
    return Counts(
        segment.attentions,
        segment.changes["attention fused"],
        segment.changes["attention biases folded"],
        model.changes["constant reshapes"],
        model.changes["residual sums"],
        segment.changes["first token only"],
        model.changes["equal weights"],
    )


@pytest.mark.parametrize("family", slow_but(EXPECTED, "bert"))
def test_passes_find_what_they_are_for(tmp_path: Path, family: str) -> None:
    assert counts(built(tmp_path / "checkpoint", family, 23)) == EXPECTED[family]


def test_an_older_opset_has_no_attention_to_fuse_to(tmp_path: Path) -> None:
    found = counts(built(tmp_path / "checkpoint", "bert", 22))
    assert found == BERT._replace(fused=0, biases=0)
