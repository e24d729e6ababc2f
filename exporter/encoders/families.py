"""What is known about each encoder family of transformers: one table, measured, no code to run.

A model type that is not listed is exported with the cautious defaults of `Family`: transformers
prepares the mask, and rows of different length never share a batch. Verification then decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from effbert.runtime.errors import ExportError

LONGEST = 8192
Mask = Literal["additive", "binary", "float", "unused"]


def max_positions(config: Any) -> int:
    """Tokens a row may have: as many as there are positions, if they are limited at all."""
    count = getattr(config, "max_position_embeddings", None)
    return min(count, LONGEST) if isinstance(count, int) and count > 0 else LONGEST


def positions_after_padding(config: Any) -> int:
    """RoBERTa counts positions from the padding id + 1, so that many rows of its table are lost."""
    return max_positions(config) - (getattr(config, "pad_token_id", None) or 0) - 1


def full_attention(config: Any) -> int:
    """BigBird attends sparsely only above this many tokens (Zaheer et al., 2020, appendix D).

    transformers' own BigBird computes full attention up to here whatever the config says, so
    within this limit full attention gives its answers.
    """
    if config.attention_type == "original_full":
        return max_positions(config)
    return min(max_positions(config), (5 + 2 * config.num_random_blocks) * config.block_size)


def fourier_as_matrices(model: Any) -> None:
    """Prepare an FNet for tracing; see `effbert.exporter.encoders.fourier`."""
    from effbert.exporter.encoders.fourier import fourier_as_matrices as prepare

    prepare(model)


def shortest_row(config: Any) -> int:
    """Funnel stops halving short rows, and whether it does cannot be part of the graph."""
    return 2 ** (len(config.block_sizes) - 1) + 1


@dataclass(frozen=True)
class Family:
    """How one model type is exported.

    Attributes:
        mask: What the encoder is given while it is traced: `additive` is our own float
            [batch, 1, 1, sequence], which saves transformers' mask construction; `binary` is the
            0/1 mask itself; `float` is that as float32; `unused` is nothing.
        padding_free: A row's answer does not depend on how far it is padded.
        max_length, min_length: Tokens a row may have, from the config.
        fixed: Config fields set at load time; they change how, not what, the model computes.
        requires: Config values without which the family is refused.
        refusal: Why the family, or a config that lacks `requires`, cannot be exported.
        prepare: What is done to the loaded model before it is traced.
        resamples: The model shortens rows and lengthens them again.
        derives_types: Tasks whose model computes better token types from the ids than zeros.
        atol: Largest difference to torch that is still rounding.
    """

    mask: Mask = "binary"
    padding_free: bool = False
    max_length: Callable[[Any], int] = max_positions
    min_length: Callable[[Any], int] = lambda config: 2
    fixed: Mapping[str, Any] = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""
    prepare: Callable[[Any], None] = lambda model: None
    resamples: bool = False
    derives_types: tuple[str, ...] = ()
    atol: float = 1e-4


def refused(reason: str) -> Family:
    """Return a family that cannot be exported rightly."""
    return Family(refusal=reason)


BERT = Family(mask="additive", padding_free=True)
ROBERTA = Family(mask="additive", padding_free=True, max_length=positions_after_padding)
OWN_MASK = Family(mask="binary", padding_free=True)
LAYOUT = refused("it reads where words stand on the page besides the words")
PICTURES = refused("it reads images besides words")

FAMILIES: Mapping[str, Family] = {
    "albert": BERT,
    "bert": BERT,
    "distilbert": BERT,
    "electra": BERT,
    "ernie": BERT,
    "megatron-bert": BERT,
    "nomic_bert": BERT,
    "rembert": BERT,
    "roformer": BERT,
    "squeezebert": BERT,
    "camembert": ROBERTA,
    "data2vec-text": ROBERTA,
    "mpnet": ROBERTA,
    "roberta": ROBERTA,
    "roberta-prelayernorm": ROBERTA,
    "xlm-roberta": ROBERTA,
    "xlm-roberta-xl": ROBERTA,
    # The trigram of the last token, or a convolution, reaches into the padding.
    "mobilebert": Family(mask="additive", atol=2e-3),
    "convbert": Family(mask="additive"),
    # These read the 0/1 mask in their own ways; an additive one is silently wrong.
    "deberta": OWN_MASK,
    "deberta-v2": OWN_MASK,
    "esm": Family(mask="binary", padding_free=True, max_length=positions_after_padding),
    "esmc": OWN_MASK,
    "eurobert": OWN_MASK,
    "flaubert": OWN_MASK,
    "gte": OWN_MASK,
    "jina_embeddings_v3": OWN_MASK,
    "modernbert": OWN_MASK,
    "ultrabert": OWN_MASK,
    "xlm": OWN_MASK,
    "luke": Family(mask="binary", padding_free=True, max_length=positions_after_padding),
    "xlnet": Family(mask="float"),
    # The Fourier transform mixes all positions, padding included.
    "fnet": Family(
        mask="unused",
        fixed={"use_tpu_fourier_optimizations": False},
        prepare=fourier_as_matrices,
    ),
    # The default, relative_shift, fixes the length; factorized computes the same from its weights.
    "funnel": Family(
        min_length=shortest_row, fixed={"attention_type": "factorized"}, resamples=True
    ),
    "big_bird": Family(
        mask="additive",
        padding_free=True,
        max_length=full_attention,
        fixed={"attention_type": "original_full"},
        derives_types=("question-answering",),
    ),
    "ibert": Family(
        padding_free=True,
        max_length=positions_after_padding,
        requires={"quant_mode": False},
        refusal="its integer arithmetic (quant_mode) cannot be traced; set quant_mode to false to "
        "export the same weights in floating point",
    ),
    "nystromformer": Family(
        requires={"num_landmarks": 64, "segment_means_seq_len": 64},
        refusal="with real landmarks transformers' code adds masks of the wrong shape and mixes "
        "the rows of a batch; only num_landmarks = segment_means_seq_len = 64 is sound",
    ),
    "yoso": Family(
        requires={"use_expectation": True},
        refusal="its hashed attention (use_expectation false) runs in a CUDA kernel only",
    ),
    "canine": refused("its downsampling to windows fixes the length of the rows in the graph"),
    "longformer": refused(
        "which tokens attend globally depends on the data, and its sliding windows come out of "
        "the tracer silently wrong"
    ),
    "mra": refused("its attention runs in a CUDA kernel and adds nothing anywhere else"),
    "reformer": refused(
        "its hashing draws random numbers, and its chunks are right only for lengths that are "
        "multiples of them"
    ),
    "roc_bert": refused("it reads the shape and the sound of characters besides the token ids"),
    "bros": LAYOUT,
    "layoutlm": LAYOUT,
    "lilt": LAYOUT,
    "markuplm": refused("it reads the XPath of each word besides the words"),
    "tapas": refused("it reads the rows and columns of a table besides the words"),
    "layoutlmv2": PICTURES,
    "layoutlmv3": PICTURES,
    "lxmert": PICTURES,
    "modernvbert": PICTURES,
    "ultravbert": PICTURES,
}


def family_of(config: Any) -> Family:
    """Look up how to export a model with this config of transformers.

    Raises:
        ExportError: The family, or this configuration of it, cannot be exported rightly.
    """
    family = FAMILIES.get(config.model_type, Family())
    sound = all(getattr(config, name) == value for name, value in family.requires.items())
    if family.refusal and not (family.requires and sound):
        raise ExportError(f"A {config.model_type} model cannot be exported: {family.refusal}.")
    return family
