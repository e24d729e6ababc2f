"""The references themselves, against published vectors, hand-made cases and other code."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    RobertaConfig,
    RobertaModel,
)

from checkpoints import write_deebert, write_noise, write_pabee
from exit_rules import ENTROPIES, deebert_rule, pabee_rule
from reference import Backbone, DeeBertReference, PabeeReference
from vocabularies import fast_tokenizer, random_rows, vocabulary

NAN, INF = math.nan, math.inf
# logits, and what the three published implementations compute for them in float32
ENTROPY_VECTORS = [
    ([2.0, 0.5, -1.0], 0.62158465, 0.62158465, 0.62158465),
    ([0.0, 0.0], 0.69314718, 0.69314718, 0.69314718),
    ([10.0, -10.0], 4.1223e-08, 0.0, 1.5207e-07),
    ([30.0, 0.0], 2.8073e-12, 1.9073e-06, 1.1921e-07),
    ([-60.0, -110.0], 9.64e-21, -3.81e-06, 1.1921e-07),
    ([52.0, -52.0], NAN, 0.0, 1.1921e-07),
    ([85.0, 0.0], 0.0, -INF, 1.1921e-07),
    ([88.0, 0.0], 0.0, -INF, 1.1921e-07),
    ([88.73, 0.0], 0.0, NAN, 1.1921e-07),
    ([100.0, 0.0], 0.0, NAN, 1.1921e-07),
    ([-120.0, -110.0], 4.994e-04, NAN, 4.994e-04),
    ([3.0], 0.0, 0.0, 1.1921e-07),
]


@pytest.mark.parametrize("logits, naive, exp, categorical", ENTROPY_VECTORS, ids=str)
def test_entropies_match_the_published_vectors(logits, naive, exp, categorical):
    x = torch.tensor(logits)
    for name, expected in (("naive", naive), ("exp", exp), ("categorical", categorical)):
        signal = ENTROPIES[name](x).item()
        assert signal == pytest.approx(expected, rel=1e-3, abs=2.5e-7, nan_ok=True), name


@pytest.mark.parametrize("logits", [v[0] for v in ENTROPY_VECTORS], ids=str)
def test_the_safe_entropy_is_finite_and_equals_float64(logits):
    x = torch.tensor(logits, dtype=torch.float64)
    exact = torch.distributions.Categorical(logits=x).entropy().item()
    assert ENTROPIES["safe"](torch.tensor(logits)).item() == pytest.approx(exact, abs=1e-6)


def labels(*winners: int) -> list[torch.Tensor]:
    return [torch.nn.functional.one_hot(torch.tensor(w), 3).float() for w in winners]


@pytest.mark.parametrize(
    "winners, patience, exit_number",
    [
        ((0, 0, 1, 1, 1), 2, 5),  # the change resets the count to 0, not to 1
        ((0, 0, 1, 1, 1), 1, 2),
        ((0, 0, 0, 0, 0), 2, 3),
        ((0, 1, 0, 1, 0), 1, 5),  # compared with the exit before, not with the first label
        ((1, 0, 0, 2, 2), 1, 3),
        ((0, 0, 0, 0, 0), 0, 5),
        ((0, 0, 0, 0, 0), 4, 5),
        ((0, 0, 0, 0, 0), 5, 5),
        ((0, 0, 0, 0, 0), -1, 5),
    ],
)
def test_patience_counts_agreements_in_a_row(winners, patience, exit_number):
    exits = labels(*winners)
    decision = pabee_rule(exits, patience)
    assert decision.exit_number == exit_number
    assert torch.equal(decision.logits, exits[exit_number - 1])


@pytest.mark.parametrize(
    "values, limit, patience, exit_number",
    [
        ((0.0, 0.05, 0.1, 0.15), 0.1, 2, 3),  # slow drift counts as agreement
        ((0.0, 0.5, 0.5, 0.5), 0.1, 2, 4),
        ((0.0, 0.5, 1.0, 1.5), 0.5, 1, 4),  # a difference equal to the threshold is none
        ((0.0, 0.0, 0.0, 0.0), 0.0, 1, 4),
    ],
)
def test_regression_agrees_within_the_threshold(values, limit, patience, exit_number):
    exits = [torch.tensor([v]) for v in values]
    assert pabee_rule(exits, patience, limit).exit_number == exit_number


def test_the_last_highway_answers_when_it_is_confident():
    unsure, sure, main = torch.tensor([0.0, 0.0]), torch.tensor([9.0, 0.0]), torch.tensor([0, 1.0])
    assert torch.equal(deebert_rule([unsure, sure], main, 0.1).logits, sure)
    assert torch.equal(deebert_rule([unsure, unsure], main, 0.1).logits, main)
    assert deebert_rule([sure, sure], main, [-1, 0.1]).exit_number == 2


@pytest.mark.parametrize(
    "logits, entropy, leaves",
    [([52.0, -52.0], "naive", False), ([85.0, 0.0], "exp", True), ([100.0, 0.0], "exp", False)],
)
def test_nan_goes_on_and_minus_infinity_leaves(logits, entropy, leaves):
    x, main = torch.tensor(logits), torch.zeros(2)
    assert (deebert_rule([x, x], main, -1.0, entropy).exit_number == 1) == leaves
    assert deebert_rule([x, x], main, -INF, entropy).exit_number == 2


BACKBONES = {
    "bert": (write_deebert, {}, BertConfig, BertModel),
    "roberta": (write_deebert, {"backbone": "roberta"}, RobertaConfig, RobertaModel),
    "albert": (
        write_pabee,
        {"backbone": "albert", "groups": 2, "inner": 2, "layers": 4},
        AlbertConfig,
        AlbertModel,
    ),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_equal_those_of_transformers(name: str, tmp_path: Path):
    write, options, config_class, model_class = BACKBONES[name]
    backbone = Backbone(write(tmp_path, noise=True, **options))
    model = model_class(config_class.from_pretrained(tmp_path)).eval()
    tensors = {
        key.removeprefix(f"{name}."): tensor
        for key, tensor in backbone.tensors.items()
        if key.startswith(f"{name}.") and "highway" not in key and "position_ids" not in key
    }
    unused = model.load_state_dict(tensors, strict=False)
    assert not unused.unexpected_keys
    assert all("position_ids" in k or "token_type_ids" in k for k in unused.missing_keys)
    for ids in random_rows(name, 4):
        with torch.no_grad():
            recorded = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        inner = options.get("inner", 1)  # transformers records every inner layer of a group
        for ours, theirs in zip(backbone.hidden_states(ids), recorded[inner::inner], strict=True):
            torch.testing.assert_close(ours, theirs[0], atol=2e-5, rtol=1e-4)


def test_the_two_roberta_layouts_differ_after_an_inner_pad_only(tmp_path: Path):
    a = DeeBertReference(write_deebert(tmp_path / "a", backbone="roberta", layout="castorini"))
    b = DeeBertReference(write_deebert(tmp_path / "b", backbone="roberta", layout="hf"))
    plain, padded = [0, 9, 8, 7, 2], [0, 9, 1, 7, 2]
    assert torch.equal(a.exits(plain)[0], b.exits(plain)[0])
    assert (a.exits(padded)[0] - b.exits(padded)[0]).abs().max() > 1e-2


@pytest.mark.parametrize("seed", range(1, 4))
def test_random_deebert_exits_spread_over_layers(seed: int, tmp_path: Path):
    reference = DeeBertReference(write_deebert(tmp_path, seed=seed))
    rows = list(random_rows("bert", 100))
    signals = sorted(s for row in rows for s in reference.signals(row))
    exits = Counter(reference.decide(row, signals[len(signals) // 4]).exit_number for row in rows)
    assert sum(count >= 5 for count in exits.values()) >= 3, exits


@pytest.mark.parametrize("backbone", ["bert", "albert"])
@pytest.mark.parametrize("labels, patience, limit", [(2, 2, 0.0), (1, 1, 0.5)])
def test_random_pabee_exits_spread_over_layers(backbone, labels, patience, limit, tmp_path):
    reference = PabeeReference(write_pabee(tmp_path, backbone=backbone, labels=labels))
    rows = random_rows(backbone, 100)
    exits = Counter(reference.decide(row, patience, limit).exit_number for row in rows)
    assert sum(count >= 5 for count in exits.values()) >= 3, exits


@pytest.mark.parametrize("backbone", ["bert", "roberta"])
def test_tokenizers_read_english_without_unknowns(backbone: str):
    tokenizer = fast_tokenizer(backbone)
    encoding = tokenizer.encode("Was it a great film, or why not?", "It's 10 out of 10!")
    assert not {"[UNK]", "<unk>"} & set(encoding.tokens)
    assert max(encoding.ids) < len(vocabulary(backbone)) == len(set(vocabulary(backbone)))


def test_noise_is_hostile(tmp_path: Path):
    write_noise(tmp_path)
    with (tmp_path / "training_args.bin").open("rb") as file:
        pickle.load(file)
    assert (tmp_path / "pwned").exists()
