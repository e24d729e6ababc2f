"""What a benchmark lets a bundle answer: token ids of fixed shapes, or texts as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effbert.runtime.bundle import Bundle
from effbert.runtime.errors import InputError
from effbert.runtime.inputs import IDS, WORDS
from effbert.runtime.labelled import read_texts
from effbert.runtime.tokenization import TextEncoder

LENGTHS = (16, 32, 64, 128, 256)
Inputs = dict[str, np.ndarray]  # int64 [rows, tokens] by name


class Workload(NamedTuple):
    """Calls that are measured together.

    Attributes:
        batch: Rows of a call; the last one may have fewer.
        length: Tokens of every row; None where they differ.
        calls: The inputs of each call.
    """

    batch: int
    length: int | None
    calls: list[Inputs]

    @property
    def name(self) -> str:
        """Rows and tokens, as in "8 x 128" or "8 x texts"."""
        return f"{self.batch} x {self.length or 'texts'}"

    @property
    def rows(self) -> int:
        """Rows of all calls."""
        return sum(len(call[IDS]) for call in self.calls)


def random_workloads(
    bundle: Bundle, batches: Sequence[int], lengths: Sequence[int] | None
) -> list[Workload]:
    """One call of random token ids for each shape; they cannot say how early real texts leave.

    Args:
        bundle: Whose limits count.
        batches: Rows of a call.
        lengths: Tokens of a row; None means those of `LENGTHS` that the model reads.

    Raises:
        InputError: The model does not read rows of such a length.
    """
    limits = bundle.manifest.limits
    if lengths is None:
        lengths = [n for n in LENGTHS if n <= limits.max_length] or [limits.max_length]
    wrong = [n for n in lengths if not limits.min_length <= n <= limits.max_length]
    if wrong:
        raise InputError(
            f"--lengths {wrong[0]}: this model reads {limits.min_length} to {limits.max_length} "
            "tokens."
        )
    generator = np.random.default_rng(0)
    workloads = []
    for batch in batches:
        for length in lengths:
            ids = generator.integers(0, limits.vocab_size, (batch, length))
            call = {IDS: ids}
            if any(item.name == WORDS for item in bundle.manifest.inputs):
                call[WORDS] = np.broadcast_to(np.arange(length), ids.shape).copy()
            workloads.append(Workload(batch, length, [call]))
    return workloads


def text_workloads(bundle: Bundle, batches: Sequence[int], path: Path) -> list[Workload]:
    """The texts of a CSV file, in its order, so many to a call; short ones are padded.

    Raises:
        InputError: The file or its texts do not fit, or the bundle has no tokenizer.
    """
    if bundle.manifest.tokenizer is None:
        raise InputError("This bundle has no tokenizer; leave --data out to measure token ids.")
    encoder = TextEncoder(bundle)
    rows = encoder.encode(read_texts(path))
    return [
        Workload(
            batch,
            None,
            [encoder.padded(rows[start : start + batch]) for start in range(0, len(rows), batch)],
        )
        for batch in batches
    ]
