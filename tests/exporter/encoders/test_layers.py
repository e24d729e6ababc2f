"""`--layers`: some layers of a plain encoder run, the others are skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from checkpoints import write_deebert
from effbert.exporter import export
from effbert.exporter.checkpoints.find import open_checkpoint
from effbert.exporter.encoders.depth import LISTS, choose_kept
from effbert.exporter.formats import plain
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime import Session
from effbert.runtime.errors import InputError
from export_command import run_command, sentence
from families import CONFIGS, check_minimal_host, write_family
from matrices import slow_but
from systems.compressed_checkpoint import write_theseus, write_tinybert
from systems.compressed_reference import Encoder, check_answers
from vocabularies import MAX_TOKENS, random_rows

ROWS = list(random_rows("bert", 40))
POSITIONS = {"max_position_embeddings": MAX_TOKENS, "vocab_size": 140}
TASK = "text-classification"
# name -> family, its settings, --layers, and the layers that must run.
EXPORTED: dict[str, tuple[str, dict[str, Any], str, Sequence[int]]] = {
    "bert": ("bert", {"num_hidden_layers": 5}, "alternate:2", (1, 2, 4)),
    "albert": (
        "albert two groups",
        {"num_hidden_layers": 6, "inner_group_num": 2},
        "2,3,4,6",
        (2, 3, 4, 6),
    ),
}


@pytest.mark.parametrize(
    "layers, depth, kept",
    [
        # The examples of Poor Man's BERT for twelve layers.
        ("top:4", 12, (1, 2, 3, 4, 5, 6, 7, 8)),
        ("bottom:4", 12, (5, 6, 7, 8, 9, 10, 11, 12)),
        ("symmetric:6", 12, (1, 2, 3, 10, 11, 12)),
        ("alternate:4", 12, (1, 2, 3, 4, 5, 7, 9, 11)),
        # Every second layer, as LayerDrop with p = 0.5 is run.
        ("alternate:6", 12, (1, 3, 5, 7, 9, 11)),
        ("alternate:3", 5, (2, 4)),
        ("symmetric:1", 5, (1, 2, 4, 5)),
        ("top:11", 12, (1,)),
        ("1,3,5", 6, (1, 3, 5)),
        (" 2, 6", 6, (2, 6)),
        ("4", 6, (4,)),
        ([1, 2], 6, (1, 2)),
        ("1,2,3", 3, (1, 2, 3)),
    ],
)
def test_rules_and_lists_name_the_layers_that_stay(
    layers: str | list[int], depth: int, kept: tuple[int, ...]
):
    assert choose_kept(layers, depth) == kept


@pytest.mark.parametrize(
    "layers, message",
    [
        ("", "Layers are numbers from 1 on, such as 1,3,5, or top:K"),
        ([], "Layers are numbers from 1 on"),
        ("1,,3", "Layers are numbers from 1 on"),
        ("1-3", "Layers are numbers from 1 on"),
        ("top", "Layers are numbers from 1 on"),
        ("top:-1", "Layers are numbers from 1 on"),
        ("top:x", "Layers are numbers from 1 on"),
        ("all", "Layers are numbers from 1 on"),
        (3, "Layers are numbers from 1 on"),
        ("middle:2", "There is no rule middle for layers"),
        ("0,1", "rise from 1 to at most 6"),
        ("1,7", "rise from 1 to at most 6"),
        ("3,1", "rise from 1 to at most 6"),
        ("2,2", "rise from 1 to at most 6"),
        ("-1,2", "rise from 1 to at most 6"),
        ("top:6", "top:6 does not fit: of 6 layers that rule can drop 1 to 5"),
        ("bottom:0", "bottom:0 does not fit"),
        ("alternate:4", "of 6 layers that rule can drop 1 to 3"),
        ("symmetric:3", "would keep 3 of 6 layers"),
    ],
)
def test_what_is_no_choice_of_layers_is_refused(layers: Any, message: str):
    with pytest.raises(InputError, match=message):
        choose_kept(layers, 6)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Name -> checkpoint and bundle."""

    @cache
    def make(name: str) -> tuple[Path, Path]:
        family, settings, layers, _ = EXPORTED[name]
        folder = tmp_path_factory.mktemp(name)
        write_family(folder / "c", family, TASK, **POSITIONS, **settings)
        export(folder / "c", folder / "bundle", layers=layers)
        return folder / "c", folder / "bundle"

    return make


@pytest.mark.parametrize("name", slow_but(EXPORTED, "bert"))
def test_a_bundle_runs_the_layers_that_stay(exported: Callable, name: str):
    checkpoint, bundle = exported(name)
    session, kept = Session(bundle, threads=1), EXPORTED[name][3]
    check_answers(session, Encoder(checkpoint, kept=kept), ROWS)
    check_minimal_host(session)
    assert [exit_.layer for exit_ in session.exits] == [len(kept)]


@pytest.mark.parametrize(
    "name, dropped",
    [
        ("bert", (".layer.2.", ".layer.4.")),
        pytest.param("albert", (), marks=pytest.mark.slow),
    ],
)
def test_what_runs_is_stored_once_and_nothing_else(
    exported: Callable, name: str, dropped: tuple[str, ...]
):
    checkpoint, bundle = exported(name)
    weights = Encoder(checkpoint).tensors.items()
    kept = sum(t.numel() for k, t in weights if not any(part in k for part in dropped))
    [segment] = Session(bundle).bundle.manifest.segments
    assert segment.parameters <= kept + 20  # and a few constants


def skip_layers(model: transformers.PreTrainedModel, kept: Sequence[int]) -> None:
    """Make every other layer give back what it was given."""

    def unchanged(module: Any, args: tuple[Any, ...], output: Any) -> Any:
        return args[0] if isinstance(output, torch.Tensor) else (args[0], *output[1:])

    body = model.base_model
    encoder = getattr(body, "encoder", None) or body.transformer
    for index, layer in enumerate(encoder.layer):
        if index + 1 not in kept:
            layer.register_forward_hook(unchanged)


@pytest.mark.parametrize("family", sorted(LISTS))
@pytest.mark.parametrize("kept", [(1, 3), (2, 3, 4)])
def test_a_layer_left_out_hands_on_what_it_was_given(
    tmp_path: Path, family: str, kept: tuple[int, ...]
):
    depth = {"n_layers" if "n_layers" in CONFIGS[family] else "num_hidden_layers": 4}
    model = write_family(tmp_path / "c", family, TASK, **depth)
    skip_layers(model, kept)
    found = plain.load(open_checkpoint(tmp_path / "c"), LoadOptions(layers=kept))
    ids = torch.tensor(ROWS[3]).clamp(max=98)[None]
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        [(_, outputs)] = found(ids, mask)
        expected = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(outputs["logits"], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("write", [write_theseus, write_tinybert])
def test_compressed_checkpoints_lose_layers_too(write: Callable[..., Path], tmp_path: Path):
    report = export(write(tmp_path / "c"), tmp_path / "bundle", layers="1,3", dry_run=True)
    assert report.description.layers == (2,)


def test_the_command_says_which_layers_stay_and_what_that_needs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    write_family(tmp_path / "c", "bert", TASK)
    outcome = run_command(
        capfd, tmp_path / "c", tmp_path / "bundle", "--layers", "top:1", "--dry-run"
    )
    assert outcome.code == 0, outcome.err
    assert "Note: Layers 1 of 2 were kept" in outcome.out


@pytest.mark.parametrize(
    "family, layers, said",
    [
        ("bert", "5", "Layers must rise from 1 to at most 2"),
        ("bert", "upper:1", "There is no rule upper for layers"),
        ("modernbert", "1,2", "Layers of a modernbert cannot be left out"),
        ("deebert", "1,2", "is a deebert checkpoint, whose exits belong to their layers"),
    ],
)
def test_the_command_refuses_layers_in_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], family: str, layers: str, said: str
):
    if family == "deebert":
        write_deebert(tmp_path / "c")
    else:
        write_family(tmp_path / "c", family, TASK)
    outcome = run_command(capfd, tmp_path / "c", tmp_path / "bundle", "--layers", layers)
    assert outcome.code == 2
    assert said in sentence(outcome)
    assert not (tmp_path / "bundle").exists()
