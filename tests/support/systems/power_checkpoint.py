"""Small random checkpoints in the layout of PoWER-BERT's code: whole models that Keras saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from checkpoints import write_hostile_pickle
from vocabularies import MAX_TOKENS, vocabulary, write_tokenizer

HIDDEN, NEURONS, HEADS, LAYERS = 32, 48, 4, 3
RETENTION = (24, 12, 4)
EXTRACTS = {"finetune": None, "configuration_search_model": "Soft-Extract", "retrained": "Extract"}
Weights = dict[str, dict[str, np.ndarray]]


def write_power(
    folder: Path,
    step: str = "retrained",
    classes: int = 3,
    logged: Sequence[int] | None = RETENTION,
    layers: int = LAYERS,
) -> Path:
    """Write what one step of the authors' training leaves; give the path of its file."""
    folder.mkdir(parents=True)
    write_tokenizer(folder, "bert", "slow")
    write_hostile_pickle(folder / "history.pkl", folder / "touched")  # beside it, never read
    if logged is not None:
        (folder / "log_file.txt").write_text(
            "Command-Line arguments :Namespace(TASK='mrpc')\n"
            " Fine-tuned model accuracies for all epochs on the Dev set:[0.8, 0.9]\n"
            f" Retention Configuration :{[*logged]}\n"
            " Re-trained model accuracies for all epochs on the Dev set:[0.8, 0.9]"
        )
    weights = random_weights(layers, classes)
    if EXTRACTS[step] == "Soft-Extract":
        for i in range(1, layers + 1):
            name = f"Encoder-{i}-MultiHeadSelfAttention-Soft-Extract"
            weights[name] = {f"{name}_W": np.ones(MAX_TOKENS, np.float32)}
    path = folder / f"{step}.hdf5"
    save(path, weights, settings(layers, classes, EXTRACTS[step]))
    return path


def save(path: Path, weights: Weights, model_config: object) -> None:
    """Write as `model.save` of Keras 2 does."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.3.1"
        file.attrs["backend"] = b"tensorflow"
        file.attrs["model_config"] = json.dumps(model_config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([*weights, "Extract"], "S")
        group.create_group("Extract").attrs["weight_names"] = []
        for layer, tensors in weights.items():
            own = group.create_group(layer)
            own.attrs["weight_names"] = np.array([f"{layer}/{n}:0" for n in tensors], "S")
            for name, tensor in tensors.items():
                own.create_dataset(f"{layer}/{name}:0", data=tensor)
        file.create_dataset("optimizer_weights/AdamWarmup/iterations:0", data=7)


def random_weights(layers: int, classes: int) -> Weights:
    """Weights by layer and name, in the authors' order."""
    random = np.random.default_rng(layers)

    def matrix(*shape: int, spread: float = 0.25) -> np.ndarray:
        return random.normal(0, spread, shape).astype(np.float32)

    def norm() -> dict[str, np.ndarray]:
        return {"gamma": 1 + matrix(HIDDEN, spread=0.1), "beta": matrix(HIDDEN, spread=0.1)}

    tokens = len(vocabulary("bert"))
    weights = {
        "Embedding-Token": {"embeddings": matrix(tokens, HIDDEN, spread=1)},
        "Embedding-Segment": {"embeddings": matrix(2, HIDDEN)},
        "Embedding-Position": {"embeddings": matrix(MAX_TOKENS, HIDDEN)},
        "Embedding-Norm": norm(),
    }
    for i in range(1, layers + 1):
        name = f"Encoder-{i}-MultiHeadSelfAttention"
        weights[name] = {}
        for part in "qkvo":
            weights[name][f"{name}_W{part}"] = matrix(HIDDEN, HIDDEN, spread=0.35)
            weights[name][f"{name}_b{part}"] = matrix(HIDDEN, spread=0.1)
        weights[f"{name}-Norm"] = norm()
        name = f"Encoder-{i}-FeedForward"
        weights[name] = {
            f"{name}_W1": matrix(HIDDEN, NEURONS),
            f"{name}_b1": matrix(NEURONS, spread=0.1),
            f"{name}_W2": matrix(NEURONS, HIDDEN),
            f"{name}_b2": matrix(HIDDEN, spread=0.1),
        }
        weights[f"{name}-Norm"] = norm()
    weights["NSP-Dense"] = {"kernel": matrix(HIDDEN, HIDDEN), "bias": matrix(HIDDEN)}
    weights["NSP"] = {"kernel": matrix(HIDDEN, classes, spread=0.6), "bias": matrix(classes)}
    return weights


def settings(
    layers: int, classes: int, extract: str | None, activation: str = "gelu_tensorflow"
) -> dict[str, Any]:
    """What Keras says about the layers: model_config."""
    listed = [_layer("TokenEmbedding", "Embedding-Token", output_dim=HIDDEN, mask_zero=True)]
    for i in range(1, layers + 1):
        name = f"Encoder-{i}-MultiHeadSelfAttention"
        listed.append(_layer("MultiHeadAttention", name, head_num=HEADS, activation="linear"))
        if extract is not None:
            kind = {"Extract": "Hard_Extract", "Soft-Extract": "Soft_Extract"}[extract]
            listed.append(_layer(kind, f"{name}-{extract}"))
        feed_forward = f"Encoder-{i}-FeedForward"
        listed.append(_layer("FeedForward", feed_forward, units=NEURONS, activation=activation))
    listed.append(_layer("Extract", "Extract", index=0))
    head = "linear" if classes == 1 else "softmax"
    listed.append(_layer("Dense", "NSP", units=classes, activation=head))
    return {"class_name": "Model", "config": {"name": "model_1", "layers": listed}}


def _layer(kind: str, name: str, **more: object) -> dict[str, Any]:
    own = {"name": name, "trainable": True, "dtype": "float32", **more}
    return {"name": name, "class_name": kind, "config": own, "inbound_nodes": []}
