"""Fit one softmax temperature an exit on labelled data.

Temperature scaling (Guo et al., ICML 2017, section 4) as The Right Tool for the Job (Schwartz et
al., ACL 2020) uses it: before a probability is compared with a threshold it should mean how often
the exit is right.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effbert.runtime import Session, TextEncoder, fit_temperature, read_labelled
from effbert.runtime.errors import InputError

BATCH = 32


def fit_temperatures(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """Find the temperature of each exit that makes the labels likeliest.

    Minimises the mean of -log softmax(logits / T)[label] over T from 0.01 to 100; it has one
    minimum, for an exit that is always right towards 0.01 and for one that knows nothing at 100.

    Where classifiers read the logits of exits before them, fit from the first exit on: later ones
    change with the temperatures before.

    Args:
        logits: float [exits, rows, classes], at temperature 1.
        labels: Int [rows], the right class of each row.

    Returns:
        One temperature an exit.

    Raises:
        InputError: The arrays do not fit each other, or hold numbers that are no logits or labels.
    """
    _check(logits, labels)
    return [fit_temperature(each, labels) for each in logits]


def _check(logits: np.ndarray, labels: np.ndarray) -> None:
    if logits.ndim != 3 or 0 in logits.shape or labels.shape != logits.shape[1:2]:
        raise InputError(
            f"Logits are {list(logits.shape)} and labels {list(labels.shape)}, expected [exits, "
            "rows, classes] and [rows], none of them 0."
        )
    if not np.isfinite(logits).all():
        raise InputError("Logits hold numbers that are not finite; leave such rows out.")
    known = labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < logits.shape[2]
    if not known:
        raise InputError(f"Labels must be integers from 0 to {logits.shape[2] - 1}.")


def fitted_temperatures(session: Session, path: Path) -> list[float]:
    """Fit the knob `temperature` of a bundle on a CSV file of labelled texts.

    From the first exit to the last, because classifiers may read the logits of exits before.

    Raises:
        InputError: The bundle has no such knob or no tokenizer, or the file does not fit.
    """
    manifest = session.bundle.manifest
    if "temperature" not in session.knobs or manifest.tokenizer is None:
        lacks = "knob temperature" if manifest.tokenizer else "tokenizer"
        raise InputError(f"Temperatures cannot be fitted: the bundle has no {lacks}.")
    data = read_labelled(path, manifest.labels)
    encoder = TextEncoder(session.bundle)
    encoded = encoder.encode(data.texts)
    labels = np.array(data.labels)
    found: list[float] = []
    for index in range(len(session.exits)):
        knobs = {"temperature": found + [1.0] * (len(session.exits) - index)}
        parts = [
            session.run_exits(encoder.padded(encoded[start : start + BATCH]), knobs)["logits"][
                index
            ]
            for start in range(0, len(encoded), BATCH)
        ]
        found += fit_temperatures(np.concatenate(parts)[None], labels)
    return [float(np.float32(value)) for value in found]
