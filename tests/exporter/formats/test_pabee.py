"""PABEE checkpoints, BERT and ALBERT, exported and answered as the paper's loop does."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from effbert.runtime import Session
from exit_checks import (
    check_decisions,
    check_default_knobs,
    check_every_exit,
    check_minimal_host,
    check_row_independence,
    check_size,
)
from matrices import slow_but

NAMES = [
    "pabee-bert",
    "pabee-bert-regression",
    "pabee-albert",
    "pabee-albert-two-groups",
    "pabee-albert-two-inner-layers",
    "pabee-albert-wide",
]
every_checkpoint = pytest.mark.parametrize(
    "name", slow_but(NAMES, "pabee-bert", "pabee-bert-regression", "pabee-albert-two-groups")
)


@pytest.fixture
def model(exported: Callable, name: str):
    return exported(name)


def knobs_of(session: Session, patience: int) -> dict[str, float]:
    """Knobs for this patience; a regression's limit grows with it, so that some rows leave."""
    knobs: dict[str, float] = {"threshold": patience}
    if "regression_threshold" in session.knobs:
        knobs["regression_threshold"] = 0.5 * patience
    return knobs


@every_checkpoint
def test_every_exit_answers_like_the_reference(model):
    check_every_exit(model.session, model.reference, model.rows)


@every_checkpoint
@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(1,), (16, 3, 8)], ids=["alone", "batches"])
def test_rows_leave_where_the_loop_says(model, patience: int, sizes: tuple[int, ...]):
    knobs = knobs_of(model.session, patience)
    met = check_decisions(model.session, model.reference, model.rows, knobs, sizes)
    assert met[0] == patience + 1
    assert len(met) > 1 or patience + 1 == len(model.session.exits)


@pytest.mark.parametrize("name", ["pabee-bert-regression"])
@pytest.mark.parametrize("limit", [0.0, 0.1, 1.0])
def test_regression_counts_small_moves(model, limit: float):
    knobs = {"threshold": 1, "regression_threshold": limit}
    met = check_decisions(model.session, model.reference, model.rows, knobs, (16, 1))
    assert (met == [6]) == (limit == 0)


@every_checkpoint
def test_patience_beyond_the_exits_never_stops_a_row(model):
    for patience in (0, len(model.session.exits), 100):
        knobs = knobs_of(model.session, patience)
        met = check_decisions(model.session, model.reference, model.rows[:40], knobs, (16,))
        assert met == [len(model.session.exits)]


@every_checkpoint
def test_default_knobs_never_stop_a_row(model):
    check_default_knobs(model.session, model.reference, model.rows[:50])


@every_checkpoint
def test_rows_do_not_depend_on_each_other(model):
    knobs = knobs_of(model.session, 2)
    check_row_independence(model.session, model.reference, model.rows, knobs)


@every_checkpoint
def test_the_minimal_host_agrees(model):
    for patience in (1, 2):
        check_minimal_host(model.session, model.rows[:60], knobs_of(model.session, patience))
    check_minimal_host(model.session, model.rows[:10], {})


@every_checkpoint
def test_later_segments_need_shapes_for_the_mask_only(model):
    for segment in model.session.bundle.manifest.segments[1:]:
        graph = onnx.load(model.bundle / segment.file, load_external_data=False).graph
        constants = {weight.name for weight in graph.initializer}
        reshapes = [node for node in graph.node if node.op_type == "Reshape"]
        assert {node.input[1] for node in reshapes} <= constants
        assert [node.op_type for node in graph.node].count("Shape") <= 1


@every_checkpoint
def test_the_manifest_tells_where_the_bundle_comes_from(model):
    manifest = model.session.bundle.manifest
    regression = model.name.endswith("regression")
    depth = model.reference.backbone.layers
    assert manifest.source.format == "pabee"
    assert manifest.source.architecture == model.reference.backbone.prefix
    assert manifest.policy.name == ("patience-regression" if regression else "patience")
    assert manifest.problem == ("regression" if regression else "single-label")
    assert len(manifest.labels) == len(model.reference.exits(model.rows[0])[0])
    assert [segment.layer for segment in manifest.segments] == list(range(1, depth + 1))
    assert manifest.parity is not None
    assert max(map(float, manifest.parity.max_abs_diff)) <= 1e-4


@every_checkpoint
def test_nothing_but_the_weights_is_unpickled(model):
    assert not (model.checkpoint / "pwned").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pabee-albert-wide"])
def test_albert_is_not_larger_than_its_checkpoint(model):
    """Within 2 % of the backbone, heads beside it, although one layer serves four segments."""
    check_size(model.bundle, model.checkpoint)
    assert (model.bundle / "weights.bin").exists()
