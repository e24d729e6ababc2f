"""What a benchmark lets a bundle answer: random token ids, or texts as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effbert.runtime.bundle.folder import Bundle
from effbert.runtime.bundle.manifest import Limits
from effbert.runtime.bundle.names import IDS, MASK, NO_WORD, TYPES, WORDS
from effbert.runtime.errors import InputError
from effbert.runtime.texts.files import read_texts
from effbert.runtime.texts.tokenization import TextEncoder

LENGTHS = (16, 32, 64, 128, 256)
# A mix has this many rows. Their lengths are those of sentences, whose logarithms spread like a
# normal distribution (Williams, Biometrika 31, 1940): 9 in 10 of these have 9 to 64 tokens.
MIX, MEDIAN, SPREAD = 64, 24, 0.6
Inputs = dict[str, np.ndarray]  # int64 [rows, tokens] by name


class Workload(NamedTuple):
    """Calls that are measured together.

    Attributes:
        batch: Rows of a call; the last one may have fewer.
        length: Tokens of every row; None where they differ.
        calls: The inputs of each call.
        kind: What rows of different lengths are.
    """

    batch: int
    length: int | None
    calls: list[Inputs]
    kind: str = "texts"

    @property
    def name(self) -> str:
        """Rows and tokens, as in "8 x 128", "8 x texts" or "8 x mix"."""
        return f"{self.batch} x {self.length or self.kind}"

    @property
    def rows(self) -> int:
        """Rows of all calls."""
        return sum(len(call[IDS]) for call in self.calls)


def random_workloads(
    bundle: Bundle, batches: Sequence[int], lengths: Sequence[int] | None
) -> list[Workload]:
    """Make calls of random token ids; they cannot say how early real texts leave.

    Args:
        bundle: Whose limits count.
        batches: Rows of a call.
        lengths: Tokens of a row, one call for each; None means those of `LENGTHS` that the model
            reads, and then rows as long as sentences are, padded within a call.

    Raises:
        InputError: The model does not read rows of such a length.
    """
    limits = bundle.manifest.limits
    fixed = lengths or [n for n in LENGTHS if n <= limits.max_length] or [limits.max_length]
    wrong = [n for n in fixed if not limits.min_length <= n <= limits.max_length]
    if wrong:
        raise InputError(
            f"--lengths {wrong[0]}: this model reads {limits.min_length} to {limits.max_length} "
            "tokens."
        )
    mix = sentence_lengths(limits)
    workloads = []
    for batch in batches:
        workloads += [Workload(batch, n, [_random_call(bundle, [n] * batch)]) for n in fixed]
        if lengths is None:
            parts = [mix[start : start + batch] for start in range(0, MIX, batch)]
            calls = [_random_call(bundle, part) for part in parts]
            workloads.append(Workload(batch, None, calls, "mix"))
    return workloads


def sentence_lengths(limits: Limits) -> list[int]:
    """Tokens of the rows of a mix, always the same ones: as many as sentences have."""
    drawn = np.random.default_rng(0).lognormal(np.log(MEDIAN), SPREAD, MIX)
    return [int(n) for n in drawn.round().clip(limits.min_length, limits.max_length)]


def _random_call(bundle: Bundle, lengths: Sequence[int]) -> Inputs:
    """Rows of so many random token ids, filled up with the padding token."""
    limits = bundle.manifest.limits
    wanted = {item.name for item in bundle.manifest.inputs} | {MASK}
    read = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.random.default_rng(0).integers(0, limits.vocab_size, read.shape)
    call = {
        IDS: np.where(read, ids, limits.pad_id),
        MASK: read.astype(np.int64),
        TYPES: np.zeros_like(ids),
        WORDS: np.where(read, np.arange(max(lengths)), NO_WORD),
    }
    return {name: value for name, value in call.items() if name in wanted}


def text_workloads(bundle: Bundle, batches: Sequence[int], path: Path) -> list[Workload]:
    """Make calls of the texts of a file, in its order; short texts are padded.

    Raises:
        InputError: The file or its texts do not fit, or the bundle has no tokenizer.
    """
    if bundle.manifest.tokenizer is None:
        raise InputError("This bundle has no tokenizer; leave --data out to measure token ids.")
    encoder = TextEncoder(bundle)
    texts = read_texts(path)
    if not texts:
        raise InputError(f"{path} holds no text; write one text a line.")
    rows = encoder.encode(texts)
    return [
        Workload(
            batch,
            None,
            [encoder.padded(rows[start : start + batch]) for start in range(0, len(rows), batch)],
        )
        for batch in batches
    ]
