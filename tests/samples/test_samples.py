"""The scripts in samples/, one after the other, on a tiny BERT and a few dozen texts."""

from __future__ import annotations

import importlib
import json
import math
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import fake_gpu
from effbert.exporter import export
from effbert.runtime import Session
from effbert.runtime.bundle.manifest import OperatingPoint
from effbert.runtime.commands import effbert
from plan_folders import write_plans
from tiny_bundle import build_tiny_bundle
from vocabularies import fast_tokenizer, vocabulary

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SUBJECTS = "film movie story name city".split()
VERDICTS = {"positive": ["good", "great"], "negative": ["bad", "not good"]}


@pytest.fixture(autouse=True)
def samples_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(SAMPLES))


def run(monkeypatch, name: str, *arguments: object, **constants: object) -> ModuleType:
    """Runs a script with these arguments; `constants` replace those of its module."""
    script = importlib.import_module(name)
    for constant, value in constants.items():
        monkeypatch.setattr(script, constant, value)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    script.main()
    return script


def write_backbone(folder: Path) -> Path:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(vocabulary("bert")),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast_tokenizer("bert"), sep_token="[SEP]", mask_token="[MASK]", **special
    )
    tokenizer.save_pretrained(folder)
    return folder


def write_texts(path: Path, count: int, seed: int) -> Path:
    data = importlib.import_module("data")
    choose = random.Random(seed)
    rows = []
    for _ in range(count):
        label = choose.choice(sorted(VERDICTS))
        words = f"{choose.choice(SUBJECTS)} is {choose.choice(VERDICTS[label])}"
        rows.append((f"the {words} and {choose.choice(SUBJECTS)}", label))
    data.write_rows(path, rows)
    return path


def tune(bundle: Path, heldout: Path, *options: str) -> None:
    command = ["tune", str(bundle), "--data", str(heldout), "--max-loss", "0", "--max-loss", "10"]
    command += options
    assert CliRunner().invoke(effbert, command).exit_code == 0


@pytest.mark.slow
def test_texts_become_a_report(tmp_path, monkeypatch):
    backbone = write_backbone(tmp_path / "backbone")
    train = write_texts(tmp_path / "train.csv", 96, seed=0)
    heldout = write_texts(tmp_path / "heldout.csv", 24, seed=1)
    test = write_texts(tmp_path / "test.csv", 24, seed=2)
    checkpoint, bundle, output = (tmp_path / name for name in ("checkpoint", "bundle", "output"))

    run(monkeypatch, "train_exits", backbone, train, checkpoint, "--epochs", 12, "--rate", 5e-3)
    exported = export(checkpoint, bundle)
    assert exported.description.format == "deebert"
    assert exported.description.labels == ("negative", "positive")

    tune(bundle, heldout)
    points = {p.name: p for p in Session(bundle).bundle.manifest.operating_points}
    assert set(points) == {"loss-0", "loss-10"}
    for point in points.values():
        rows = importlib.import_module("data").read_rows(heldout)
        answers = Session(bundle, operating_point=point.name)([text for text, _ in rows])
        right = [a.label == label for a, (_, label) in zip(answers, rows, strict=True)]
        assert point.quality["accuracy"] == pytest.approx(100 * sum(right) / len(right), abs=0.01)
        layers = sum(a.exit_layer for a in answers) / len(answers)
        assert point.cost["mean exit layer"] == pytest.approx(layers, abs=0.001)

    int8 = tmp_path / "int8"
    export(checkpoint, int8, precision="int8", calibration=train, min_agreement=0.5)
    tune(int8, heldout)

    both = tmp_path / "both"
    export(checkpoint, both, length_adaptive=True, verify=False)
    evolution = ("--cost", "flops", "--generations", "0", "--population", "4")
    tune(both, heldout, "--front", *evolution)
    paths = (checkpoint, test, output, bundle, int8, both, "--truncate", heldout)
    run(monkeypatch, "report", *paths, ROUNDS=1, PAUSE=0, WARM_UP=1)
    report = json.loads((output / "report.json").read_text())
    by_name = {result["name"]: result for result in report["results"]}
    full = [
        *("torch, full model", "onnxruntime, uncut graph"),
        *("effbert exits, none used", "effbert exits and lengths, none used"),
    ]
    assert {by_name[name]["mean_exit_layer"] for name in full} == {3.0}
    assert len({by_name[name]["accuracy"] for name in full}) == 1
    assert by_name["torch, full model"]["accuracy"] > 80  # 50 is guessing
    for name in ("exits", "exits, int8"):
        assert by_name[f"effbert {name}, none used"]["mean_exit_layer"] == 3
        assert by_name[f"effbert {name}, loss-10"]["mean_exit_layer"] < 3
        assert by_name[f"effbert {name}, loss-10"]["in_table"]
    kinds = {result["kind"] for result in report["results"]}
    assert kinds == {"full model", "truncated texts", "exits", "exits, int8", "exits and lengths"}
    in_table = [result for result in report["results"] if result["in_table"]]
    for kind, losses in (("truncated texts", (0.5, 2)), ("exits and lengths", (0, 10))):
        names = [result["name"] for result in in_table if result["kind"] == kind]
        assert all(any(f"loss-{loss}" in name for name in names) for loss in losses)
    assert (output / "table.md").read_text().count("\n") == 2 + len(in_table)

    plot = run(monkeypatch, "plot", output / "report.json", output / "plot.svg")
    first = (output / "plot.svg").read_bytes()
    plot.draw(report, output / "again.svg")
    assert first == (output / "again.svg").read_bytes()


def test_no_text_is_in_two_parts():
    data = importlib.import_module("data")
    rows = [(f"What is number {k % 50} {'?' * (k % 3)}", "number") for k in range(200)]
    test = [("what is number 7", "number")]
    train, heldout = data.split(rows, test)
    words = [data.key(text) for text, _ in [*train, *heldout, *test]]
    assert len(words) == len(set(words)) == 50
    assert train
    assert heldout
    assert data.split(rows, test) == (train, heldout)


@pytest.mark.parametrize("loss, value", [(0, 0.1), (0.5, 0.2), (2, 0.3), (50, 0.9)])
def test_the_cheapest_value_within_the_loss_is_chosen(loss, value):
    choosing = importlib.import_module("choosing")
    full = choosing.Measured(-1, 90.0, 6.0)
    tried = [
        choosing.Measured(0.1, 90.2, 4.0),
        choosing.Measured(0.05, 90.0, 5.0),
        choosing.Measured(0.2, 89.5, 3.0),
        choosing.Measured(0.3, 88.0, 2.0),
        choosing.Measured(0.9, 60.0, 1.0),
    ]
    assert choosing.choose(full, tried, loss).value == value


def test_a_lucky_value_behind_one_that_loses_too_much_is_not_trusted():
    choosing = importlib.import_module("choosing")
    full = choosing.Measured(-1, 90.0, 6.0)
    tried = [
        choosing.Measured(0.1, 90.0, 4.0),
        choosing.Measured(0.2, 88.0, 3.0),
        choosing.Measured(0.3, 90.0, 2.0),
    ]
    assert choosing.choose(full, tried, 0.5).value == 0.1


def test_nothing_leaves_early_where_every_value_loses_too_much():
    choosing = importlib.import_module("choosing")
    full = choosing.Measured(-1, 90.0, 6.0)
    assert choosing.choose(full, [choosing.Measured(0.1, 80.0, 2.0)], 1) == full


@pytest.mark.parametrize(
    "share, ids",
    [
        (1.0, [[2, 5, 6, 7, 8, 3], [2, 9, 3, 0, 0, 0]]),
        (0.8, [[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]]),
        (0.5, [[2, 5, 3], [2, 3, 3]]),
        (0.1, [[2, 3], [2, 3]]),
    ],
)
def test_truncated_texts_keep_their_first_tokens_and_the_closing_one(share, ids):
    truncate = importlib.import_module("truncate")
    inputs = {
        "input_ids": np.array([[2, 5, 6, 7, 8, 3], [2, 9, 3, 0, 0, 0]]),
        "attention_mask": np.array([[1] * 6, [1] * 3 + [0] * 3]),
    }
    short = truncate.truncated(inputs, share)
    left = [max(2, math.ceil(share * tokens)) for tokens in (6, 3)]
    assert short["attention_mask"].sum(1).tolist() == left
    for row, count in enumerate(left):
        assert short["input_ids"][row, :count].tolist() == ids[row][:count]
    assert {array.shape for array in short.values()} == {(2, max(left))}
    assert inputs["input_ids"][0, 1] == 5


def test_texts_are_truncated_as_far_as_accuracy_allows():
    truncate = importlib.import_module("truncate")
    ids = np.arange(20).reshape(1, 20).repeat(4, 0)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    def answer(short):  # wrong for one row in four below 15 tokens, for all below 11
        tokens = short["attention_mask"].sum(1)
        wrong = (tokens < 11) | ((tokens < 15) & (np.arange(4) == 0))
        return np.eye(2)[wrong.astype(int)], None

    chosen = truncate.choose_shares(answer, [inputs], np.zeros(4), (0.5, 25, 100))
    assert chosen == {0.5: 0.8, 25: 0.6, 100: 0.5}


def test_points_are_reported_by_their_loss_and_a_front_is_drawn():
    arms = importlib.import_module("arms")
    lossy = OperatingPoint(name="loss-2", knobs={"lengths": [0.2] * 3}, data="heldout.csv")
    front = [
        OperatingPoint(
            name=f"front-{place}",
            knobs={"lengths": [0.1 * place] * 3, "threshold": "-inf"},
            data="heldout.csv",
        )
        for place in range(1, 7)
    ]
    chosen, others = arms.operating_points([lossy, *front])
    assert chosen == {"loss-2": {"lengths": [0.2] * 3}}
    assert [round(10 * knobs["lengths"][0]) for knobs in others] == [1, 3, 5]
    assert others[0]["threshold"] == -math.inf


@pytest.mark.slow
def test_a_checkpoint_learns_to_answer_with_tokens_dropped(tmp_path, monkeypatch):
    backbone = write_backbone(tmp_path / "backbone")
    train = write_texts(tmp_path / "train.csv", 96, seed=0)
    first, second, bundle = (tmp_path / name for name in ("first", "second", "bundle"))
    run(monkeypatch, "train_exits", backbone, train, first, "--epochs", 12, "--rate", 5e-3)
    run(monkeypatch, "train_lengths", first, train, second, "--epochs", 6, "--rate", 2e-3)
    export(second, bundle, length_adaptive=True)
    rows = importlib.import_module("data").read_rows(write_texts(tmp_path / "test.csv", 40, seed=3))
    texts, labels = zip(*rows, strict=True)
    session = Session(bundle)
    for lengths in (1.0, [0.8, 0.64, 0.5]):
        answers = session(list(texts), knobs={"lengths": lengths})
        right = [a.label == label for a, label in zip(answers, labels, strict=True)]
        assert sum(right) >= 0.9 * len(right)


@pytest.mark.slow
def test_exits_trained_in_a_second_stage_answer_too(tmp_path, monkeypatch):
    backbone = write_backbone(tmp_path / "backbone")
    train = write_texts(tmp_path / "train.csv", 96, seed=0)
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    options = ("--epochs", 12, "--rate", 5e-3, "--two-stage")
    run(monkeypatch, "train_exits", backbone, train, checkpoint, *options)
    export(checkpoint, bundle, verify=False)
    rows = importlib.import_module("data").read_rows(write_texts(tmp_path / "test.csv", 40, seed=3))
    texts, labels = zip(*rows, strict=True)
    for threshold, layer in (("inf", 1), ("-inf", 3)):
        answers = Session(bundle)(list(texts), knobs={"threshold": float(threshold)})
        right = [a.label == label for a, label in zip(answers, labels, strict=True)]
        assert {a.exit_layer for a in answers} == {layer}
        assert sum(right) >= 0.9 * len(right)


@pytest.mark.slow
def test_a_model_trained_with_layerdrop_answers_with_fewer_layers(tmp_path, monkeypatch):
    backbone = write_backbone(tmp_path / "backbone")
    train = write_texts(tmp_path / "train.csv", 96, seed=0)
    checkpoint = tmp_path / "checkpoint"
    options = ("--epochs", 60, "--rate", 5e-3)
    run(monkeypatch, "train_layerdrop", backbone, train, checkpoint, *options)
    rows = importlib.import_module("data").read_rows(write_texts(tmp_path / "test.csv", 40, seed=3))
    texts, labels = zip(*rows, strict=True)
    for layers, left in ((None, 3), ("alternate:1", 2), ("alternate:2", 1)):
        export(checkpoint, tmp_path / "bundle", layers=layers, force=True)
        session = Session(tmp_path / "bundle")
        assert session.exits[-1].layer == left
        answers = session(list(texts))
        right = [a.label == label for a, label in zip(answers, labels, strict=True)]
        assert sum(right) >= 0.9 * len(right)


def test_a_bundle_is_tried_on_the_device_with_one_table_at_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fake_gpu.install(monkeypatch)
    bundle = build_tiny_bundle(tmp_path / "bundle")
    plans = write_plans(bundle, tmp_path / "plans")
    few = {"BATCHES": (1, 2), "ROUNDS": 2}
    script = run(monkeypatch, "on_device", bundle, "--plans", plans, "--lengths", "8,99", **few)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{bundle} on this device"
    assert [line.split("\t")[0] for line in lines[2:] if line] == [
        "engine",
        "golden rows",
        "a row alone and in a batch",
        "1 x 8 tokens, chain",
        "2 x 8 tokens, chain",
    ]
    assert script.own_target("tensorrt-rtx") == "sm86"


def test_a_machine_without_a_gpu_is_told_the_way_out(tmp_path, monkeypatch):
    fake_gpu.install(monkeypatch).cuda.gpus = 0
    bundle = build_tiny_bundle(tmp_path / "bundle")
    with pytest.raises(SystemExit, match="no GPU was found"):
        run(monkeypatch, "on_device", bundle)
