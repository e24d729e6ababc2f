"""Systems whose rows leave where the best label is likely enough."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from systems.cascadebert_checkpoint import write_cascadebert
from systems.cascadebert_reference import CascadeBertReference
from systems.case import Case, ExportedCase, Knobs, at_quantiles, case_of
from systems.sledgehammer_checkpoint import write_sledgehammer
from systems.sledgehammer_reference import SledgehammerReference

CASCADE = {
    "format": "cascadebert",
    "paper": "CascadeBERT",
    "write": write_cascadebert,
    "reference": CascadeBertReference,
    "policy": "confidence-above",
    "own": 0.5,
}


def cascade(name: str, depths: tuple[int, ...], **more: Any) -> Case:
    given = {"exit_layers": tuple(accumulate(depths)), "least": len(depths), **more}
    return case_of(CASCADE, name, depths=depths, **given)


SOME = {"knobs": at_quantiles(0.3, 0.5, 0.7), "least": 2, "slow": True}
CASCADES = [
    cascade("cascadebert-3", (1, 1, 2), labels=3, knobs=at_quantiles(0.3, 0.5, 0.8)),
    cascade("cascadebert-2", (1, 3), **SOME, labels=2, noise=True),
    cascade("cascadebert-2-of-4-labels", (2, 2), **SOME, labels=4, tokenizer="fast"),
    cascade("cascadebert-4", (3, 1, 2, 1), **SOME, labels=2, seed=2),
    cascade("cascadebert-deep", (2, 6), **SOME),
]


def tempered(model: ExportedCase, temperature: Any, *shares: float) -> list[Knobs]:
    """Thresholds that a share 1 - q of the rows reaches at each exit, at this temperature."""
    given = {} if temperature is None else {"temperature": temperature}
    signals = [model.reference.signals(row, temperature) for row in model.rows]
    return [{"threshold": np.quantile(signals, q, axis=0).tolist(), **given} for q in shares]


def temperatures(*shares: float) -> Any:
    def knobs(model: ExportedCase) -> list[Knobs]:
        steps = np.linspace(0.8, 2.5, len(model.session.exits)).tolist()
        return [each for t in (None, 1.5, steps) for each in tempered(model, t, *shares)]

    return knobs


SLEDGEHAMMER = {
    "format": "sledgehammer",
    "paper": "Right Tool",
    "write": write_sledgehammer,
    "reference": SledgehammerReference,
    "unruled": partial(SledgehammerReference, temperature=1.0),
    "policy": "confidence",
    "knobs": temperatures(0.3, 0.9),
    "exit_layers": (1, 3, 5),
    "own": 0.5,
    "at": "leaves",
}
sledgehammer = partial(case_of, SLEDGEHAMMER)
SHAPES = {"knobs": temperatures(0.2, 0.5, 0.8), "least": 2, "slow": True}
SLEDGEHAMMERS = [
    sledgehammer("sledgehammer"),
    sledgehammer(
        "sledgehammer-chained",
        chained=True,
        temperature="2_1_3",
        labels=("no", "yes"),
        slow=True,
    ),
    sledgehammer(
        "sledgehammer-four",
        **SHAPES,
        exits=(0, 3, 5, 7),
        chained=True,
        labels=tuple("abcd"),
        exit_layers=(1, 4, 6, 8),
    ),
    sledgehammer(
        "sledgehammer-not-the-last-layer",
        **SHAPES,
        exits=(1, 2, 3),
        labels=("no", "yes"),
        layers=6,
        exit_layers=(2, 3, 4),
    ),
    sledgehammer(
        "sledgehammer-two",
        **SHAPES,
        exits=(4, 6),
        temperature="1.7_2.3",
        seed=5,
        exit_layers=(5, 7),
    ),
    sledgehammer(
        "sledgehammer-every-layer",
        **SHAPES,
        exits=(0, 1, 2, 3, 4),
        chained=True,
        temperature="2_2_2_2_2",
        exit_layers=(1, 2, 3, 4, 5),
    ),
]
CONFIDENCE_CASES: list[Case] = [*CASCADES, *SLEDGEHAMMERS]
