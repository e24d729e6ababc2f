"""Small random checkpoints of every encoder family, and answers of transformers to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.auto import modeling_auto as auto

import minimal_host
from effbert.runtime import Session

VOCABULARY, POSITIONS, CLASSES = 99, 140, 3
SHAPES = ((2, 64), (3, 32), (1, 64), (4, 128), (3, 33), (2, 17), (1, 5))
TASKS: dict[str, tuple[type, Mapping[str, Any]]] = {
    "text-classification": (
        transformers.AutoModelForSequenceClassification,
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    ),
    "token-classification": (
        transformers.AutoModelForTokenClassification,
        auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    ),
    "question-answering": (
        transformers.AutoModelForQuestionAnswering,
        auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    ),
}
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
ROBERTA = {**BERT, "pad_token_id": 1, "type_vocab_size": 1}
ALBERT = {**BERT, "embedding_size": 16, "num_hidden_layers": 4}
DEBERTA = {
    **BERT,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
    "position_biased_input": False,
}
MODERNBERT = {
    **BERT,
    "num_hidden_layers": 3,
    "local_attention": 16,
    "global_attn_every_n_layers": 2,
    "pad_token_id": 0,
}
FUNNEL = {
    "vocab_size": VOCABULARY,
    "block_sizes": [1, 2, 1],
    "d_model": 32,
    "n_head": 4,
    "d_head": 8,
    "d_inner": 64,
    "num_decoder_layers": 1,
}
# A name is a model type, or a model type and what is special about the config.
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": {
        "vocab_size": VOCABULARY,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": POSITIONS,
    },
    "albert": ALBERT,
    "albert two groups": {**ALBERT, "num_hidden_groups": 2},
    "albert two inner layers": {**ALBERT, "num_hidden_layers": 2, "inner_group_num": 2},
    "electra": {**BERT, "embedding_size": 16},
    "mobilebert": {
        **BERT,
        "embedding_size": 16,
        "intra_bottleneck_size": 16,
        "true_hidden_size": 16,
        "num_feedforward_networks": 2,
    },
    "mpnet": {**BERT, "pad_token_id": 1},
    "convbert": {**BERT, "embedding_size": 16, "head_ratio": 2, "conv_kernel_size": 5},
    "squeezebert": {**BERT, "embedding_size": 32, "q_groups": 2, "output_groups": 2},
    "deberta": {**DEBERTA, "pooler_hidden_size": 32},
    "deberta-v2": {
        **DEBERTA,
        "pooler_hidden_size": 32,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
    "deberta-v2 with a convolution": {
        **DEBERTA,
        "pooler_hidden_size": 32,
        "conv_kernel_size": 3,
        "conv_act": "gelu",
    },
    "fnet": BERT,
    "funnel": FUNNEL,
    "modernbert": MODERNBERT,
    "modernbert with mean pooling": {**MODERNBERT, "classifier_pooling": "mean"},
    "big_bird": {**BERT, "attention_type": "original_full", "sep_token_id": 66},
    "big_bird sparse": {
        **BERT,
        "attention_type": "block_sparse",
        "block_size": 16,
        "num_random_blocks": 2,
        "sep_token_id": 66,
    },
    "ernie": BERT,
    "megatron-bert": BERT,
    "nomic_bert": BERT,
    "rembert": {**BERT, "input_embedding_size": 16, "output_embedding_size": 16},
    "roformer": {**BERT, "embedding_size": 16},
    "data2vec-text": ROBERTA,
    "roberta-prelayernorm": ROBERTA,
    "xlm-roberta-xl": ROBERTA,
    "ibert": ROBERTA,
    "esm": {**BERT, "pad_token_id": 1, "mask_token_id": 3, "position_embedding_type": "rotary"},
    "xlnet": {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
}


def tasks_of(name: str) -> list[str]:
    """The tasks transformers has a class for."""
    return [task for task, (_, names) in TASKS.items() if name.split()[0] in names]


def write_family(
    folder: Path, name: str, task: str, **settings: Any
) -> transformers.PreTrainedModel:
    """Save a random checkpoint and return the model, with transformers' default attention.

    Weights are spread widely enough for attention to matter: with the usual initialisation a
    wrong mask would hardly show.
    """
    classes = {} if task == "question-answering" else {"num_labels": CLASSES}
    config = transformers.AutoConfig.for_model(
        name.split()[0], **{**CONFIGS[name], **classes, **settings}
    )
    torch.manual_seed(7)
    model = TASKS[task][0].from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.15)
    model.save_pretrained(folder)
    return model


def random_batch(rows: int, length: int, pad: int, types: int, seed: int) -> dict[str, np.ndarray]:
    """Rows of random ids; all but the first are padded."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, VOCABULARY, (rows, length))
    mask = np.ones_like(ids)
    for row in range(1, rows):
        real = int(length * rng.uniform(0.3, 0.9))
        ids[row, real:], mask[row, real:] = pad, 0
    kinds = np.where(np.arange(length) < length // 2, 0, types - 1) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}


def torch_answers(
    model: transformers.PreTrainedModel, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> dict[str, np.ndarray]:
    """What transformers says, each row at its own length; token-level answers are padded with 0."""
    rows, length = inputs["input_ids"].shape
    answers: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    for row in range(rows):
        real = int(inputs["attention_mask"][row].sum())
        feeds = {k: torch.from_numpy(v[row : row + 1, :real]) for k, v in inputs.items()}
        if model.config.model_type == "xlnet":
            feeds["attention_mask"] = feeds["attention_mask"].float()
        with torch.inference_mode():
            answer = model(**feeds)
        for name in outputs:
            value = answer[name][0].numpy()
            if name != "logits" or value.ndim == 2:
                value = np.pad(value, [(0, length - real)] + [(0, 0)] * (value.ndim - 1))
            answers[name].append(value)
    return {name: np.stack(values) for name, values in answers.items()}


def largest_difference(
    model: transformers.PreTrainedModel, session: Session, shapes: Sequence[tuple[int, int]]
) -> float:
    """Compare a bundle with its model on padded batches of several shapes, real tokens only."""
    limits = session.bundle.manifest.limits
    names = [tensor.name for tensor in session.bundle.manifest.inputs]
    worst = 0.0
    for seed, (rows, length) in enumerate(shapes):
        every = random_batch(rows, length, limits.pad_id, max(1, limits.type_vocab_size), seed)
        inputs = {name: every[name] for name in {*names, "attention_mask"}}
        found = session.run({name: every[name] for name in names}).outputs
        for name, expected in torch_answers(model, inputs, list(found)).items():
            difference = np.abs(found[name] - expected)
            if name != "logits" or difference.ndim == 3:
                difference = difference[every["attention_mask"] == 1]
            worst = max(worst, float(difference.max()))
    return worst


def check_minimal_host(session: Session) -> None:
    """The smallest host answers rows of equal length as Session does."""
    limits, manifest = session.bundle.manifest.limits, session.bundle.manifest
    every = random_batch(3, 12, limits.pad_id, max(1, limits.type_vocab_size), seed=7)
    every["attention_mask"][:] = 1
    inputs = {item.name: every[item.name] for item in manifest.inputs}
    ours, theirs = session.run(inputs), minimal_host.run(str(session.bundle.path), inputs, {})
    assert np.array_equal(ours.exit_layer, theirs["exit_layer"])
    for name, value in ours.outputs.items():
        np.testing.assert_allclose(theirs[name], value, rtol=0, atol=2e-5)
