"""The format of a checkpoint is found from its tensors and config, without options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from checkpoints import write_deebert, write_pabee
from effbert.exporter import export
from effbert.exporter.commands.export import export_command
from effbert.exporter.commands.formats import list_formats

LAYOUTS: list[tuple[Callable[..., Path], dict[str, Any], str, str]] = [
    (write_deebert, {}, "deebert", "entropy-exp"),
    (write_deebert, {"layout": "castorini"}, "deebert", "entropy-naive"),
    (write_deebert, {"backbone": "roberta", "noise": True}, "deebert", "entropy-exp"),
    (write_deebert, {"backbone": "roberta", "layout": "castorini"}, "deebert", "entropy-naive"),
    (write_deebert, {"labels": 1, "layout": "castorini"}, "deebert", "none"),
    (write_pabee, {}, "pabee", "patience"),
    (write_pabee, {"layout": "bin", "noise": True}, "pabee", "patience"),
    (write_pabee, {"layout": "original"}, "pabee", "patience"),
    (write_pabee, {"labels": 1}, "pabee", "patience-regression"),
    (write_pabee, {"backbone": "albert", "groups": 3}, "pabee", "patience"),
    (write_pabee, {"backbone": "albert", "layout": "original"}, "pabee", "patience"),
    (write_pabee, {"backbone": "albert", "labels": 1}, "pabee", "patience-regression"),
]


def dry_run(checkpoint: Path, *options: str) -> Result:
    """Run `effbert-export CHECKPOINT BUNDLE --dry-run --json`."""
    bundle = str(checkpoint.parent / "bundle")
    arguments = [str(checkpoint), bundle, "--dry-run", "--json", *options]
    return CliRunner().invoke(export_command, arguments)


@pytest.mark.parametrize("write, options, name, policy", LAYOUTS)
def test_every_published_layout_is_recognised(
    write: Callable[..., Path], options: dict[str, Any], name: str, policy: str, tmp_path: Path
):
    checkpoint = write(tmp_path / "checkpoint", layers=6, **options)
    result = dry_run(checkpoint)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["format"], report["policy"]) == (name, policy)
    assert report["exits"] == [1, 2, 3, 4, 5, 6]
    assert report["architecture"] == options.get("backbone", "bert")
    assert not report["written"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]
    assert not (checkpoint / "pwned").exists()


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_deebert, write_pabee])
def test_a_config_that_asks_for_tuples_changes_nothing(write: Callable[..., Path], tmp_path: Path):
    checkpoint = write(tmp_path / "checkpoint", layers=2)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"return_dict": False}))
    assert export(checkpoint, tmp_path / "bundle").manifest.parity.rows


def test_a_last_highway_is_for_checkpoints_that_have_one(tmp_path: Path):
    for value in ("on", "off"):
        result = dry_run(write_deebert(tmp_path / value), "--last-highway", value)
        assert json.loads(result.stdout)["format"] == "deebert"
    result = dry_run(write_pabee(tmp_path / "pabee"), "--last-highway", "off")
    assert result.exit_code == 2
    assert "leave --last-highway out" in result.output


def test_a_plain_model_without_a_type_says_what_to_add(tmp_path: Path):
    checkpoint = write_deebert(tmp_path / "checkpoint", layout="castorini", layers=2)
    weights = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    plain = {name: tensor for name, tensor in weights.items() if "highway" not in name}
    torch.save(plain, checkpoint / "pytorch_model.bin")
    result = dry_run(checkpoint)
    assert result.exit_code == 2
    assert 'add its "model_type"' in result.output


def test_the_list_of_policies_has_the_knobs_that_models_read():
    knobs = {
        policy["name"]: {knob["name"]: knob["raising"] for knob in policy["knobs"]}
        for policy in list_formats()["policies"]
    }
    assert knobs["token-entropy"] == {
        "threshold": "earlier",
        "token_threshold": "earlier",
        "window": "later",
    }
    assert [name for name, own in knobs.items() if not own] == ["none"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt"])
def test_a_weights_file_beside_its_config_is_enough(name: str, tmp_path: Path):
    checkpoint = write_deebert(tmp_path / "checkpoint", layout="castorini")
    file = (checkpoint / "pytorch_model.bin").rename(checkpoint / name)
    assert json.loads(dry_run(file).stdout)["format"] == "deebert"


def test_parallel_training_leaves_a_prefix_that_does_not_matter(tmp_path: Path):
    checkpoint = write_pabee(tmp_path / "checkpoint")
    rename(checkpoint, lambda key: f"module.{key}")
    assert json.loads(dry_run(checkpoint).stdout)["format"] == "pabee"


def rename(checkpoint: Path, new: Callable[[str], str]) -> None:
    """Rename every tensor."""
    file = checkpoint / "model.safetensors"
    save_file({new(key): tensor for key, tensor in load_file(file).items()}, file)


def add_config(checkpoint: Path, **entries: object) -> None:
    """Add entries to config.json."""
    file = checkpoint / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def add_tensors(checkpoint: Path, **tensors: torch.Tensor) -> None:
    """Add tensors to the weights."""
    file = checkpoint / "model.safetensors"
    save_file(load_file(file) | tensors, file)


def berxit_divide(checkpoint: Path) -> None:
    add_config(write_deebert(checkpoint), divide="all")


def berxit_lte(checkpoint: Path) -> None:
    add_tensors(write_deebert(checkpoint), **{"lte_classifier.weight": torch.zeros(1, 32)})


def berxit_core(checkpoint: Path) -> None:
    rename(write_deebert(checkpoint), lambda key: f"core.{key}")


def elasticbert(checkpoint: Path) -> None:
    rename(write_pabee(checkpoint), lambda key: key.replace("bert.", "elasticbert."))


def gpfee(checkpoint: Path) -> None:
    write_pabee(checkpoint)
    rename(
        checkpoint, lambda key: key.replace("classifiers.0.weight", "classifiers.gate_proj.weight")
    )
    add_tensors(checkpoint, **{"classifiers.weight": torch.zeros(6, 32, 4)})


def fastbert(checkpoint: Path) -> None:
    rename(
        write_pabee(checkpoint),
        lambda key: key.replace("classifiers.0.", "classifiers.0.output_layer_0."),
    )


@pytest.mark.parametrize(
    "write", [berxit_divide, berxit_lte, berxit_core, elasticbert, gpfee, fastbert]
)
def test_systems_with_similar_keys_are_not_taken_for_these(
    write: Callable[[Path], None], tmp_path: Path
):
    write(tmp_path / "checkpoint")
    for name in ("deebert", "pabee"):
        result = dry_run(tmp_path / "checkpoint", "--format", name)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert len(result.stderr.strip().splitlines()) == 1


def test_a_regression_that_cannot_exit_says_what_could(tmp_path: Path):
    checkpoint = write_deebert(tmp_path / "in", labels=1, layers=2, tokenizer=None)
    report = export(checkpoint, tmp_path / "out", dry_run=True)
    assert report.policy.name == "none"
    assert "--policy patience" in " ".join(report.notes)
    settled = export(checkpoint, tmp_path / "out", dry_run=True, policy="patience")
    assert settled.policy.name == "patience-regression"
    assert not settled.notes
