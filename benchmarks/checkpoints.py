"""A DeeBERT checkpoint with random weights, in the layout of the port to transformers.

    python benchmarks/checkpoints.py --layers 12 --hidden 768

Made once for each shape and kept in build/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

FOLDER = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
HEAD_SIZE = 64
POSITIONS = 512
LABELS = 2
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPREAD = 0.02  # what BERT starts training from


class Shape(NamedTuple):
    """How large the model is; the defaults are BERT-base."""

    layers: int = 12
    hidden: int = 768
    vocabulary: int = 30522

    @property
    def name(self) -> str:
        return f"bert-{self.layers}x{self.hidden}-{self.vocabulary}"

    @property
    def config(self) -> dict:
        """config.json of the checkpoint."""
        return {
            "architectures": ["DeeBertForSequenceClassification"],
            "model_type": "bert",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": max(1, self.hidden // HEAD_SIZE),
            "intermediate_size": 4 * self.hidden,
            "max_position_embeddings": POSITIONS,
            "type_vocab_size": 2,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose a shape: layers, hidden, vocabulary."""
    for field, what in (
        ("layers", "encoder layers, an exit after each"),
        ("hidden", "size of the hidden state, a multiple of 64"),
        ("vocabulary", "tokens the model knows"),
    ):
        default = Shape._field_defaults[field]
        parser.add_argument(f"--{field}", type=int, default=default, help=f"{what} ({default})")


def make_checkpoint(shape: Shape) -> Path:
    """Writes the checkpoint of a shape unless it is there; returns its folder."""
    folder = FOLDER / shape.name / "checkpoint"
    if not (folder / "model.safetensors").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(shape.config, indent=2))
        _tokenizer(shape.vocabulary).save(str(folder / "tokenizer.json"))
        save_file(_weights(shape), folder / "model.safetensors", {"format": "pt"})
    return folder


def _weights(shape: Shape) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    size = shape.hidden
    weights: dict[str, np.ndarray] = {}

    def draw(name: str, *extents: int, mean: float = 0) -> None:
        weights[name] = mean + SPREAD * generator.standard_normal(extents, np.float32)

    def linear(name: str, outputs: int = size, inputs: int = size) -> None:
        draw(f"{name}.weight", outputs, inputs)
        draw(f"{name}.bias", outputs)

    def norm(name: str) -> None:
        draw(f"{name}.LayerNorm.weight", size, mean=1)
        draw(f"{name}.LayerNorm.bias", size)

    draw("bert.embeddings.word_embeddings.weight", shape.vocabulary, size)
    draw("bert.embeddings.position_embeddings.weight", POSITIONS, size)
    draw("bert.embeddings.token_type_embeddings.weight", 2, size)
    norm("bert.embeddings")
    for index in range(shape.layers):
        layer = f"bert.encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}")
        norm(f"{layer}.attention.output")
        linear(f"{layer}.intermediate.dense", 4 * size, size)
        linear(f"{layer}.output.dense", size, 4 * size)
        norm(f"{layer}.output")
        linear(f"bert.encoder.highway.{index}.pooler.dense")
        linear(f"bert.encoder.highway.{index}.classifier", LABELS)
    linear("bert.pooler.dense")
    linear("classifier", LABELS)
    return weights


def _tokenizer(size: int) -> Tokenizer:
    """Whole words, those of the exporter's own sentences: rows as long as real ones."""
    sentences = (
        resources.files("effbert.exporter.rows").joinpath("sentences.txt").read_text("utf-8")
    )
    words = dict.fromkeys(re.findall(r"\w+|[^\w\s]", sentences.lower()))
    known = [*SPECIAL, *words][:size]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(known)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add_arguments(parser)
    options = parser.parse_args()
    print(make_checkpoint(Shape(options.layers, options.hidden, options.vocabulary)))


if __name__ == "__main__":
    main()
