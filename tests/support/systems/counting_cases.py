"""Systems that look at several exits before a row leaves: patience, windows, halting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from checkpoints import write_pabee
from reference import PabeeReference
from systems.act_model import ActReference, write_act
from systems.case import Case, ExportedCase, Knobs, case_of, patience
from systems.elasticbert_checkpoint import write_elasticbert
from systems.elasticbert_reference import PatientElasticBertReference
from systems.elbert_checkpoint import write_elbert
from systems.elbert_reference import ElbertReference, closeness, elbert_rule, first_stage

PABEE = {
    "format": "pabee",
    "paper": "PABEE",
    "write": write_pabee,
    "reference": PabeeReference,
    "policy": "patience",
    "knobs": patience(1, 2, 3),
    "least": 1,
    "own": None,
    "at": None,
}
REGRESSION = {
    "labels": 1,
    "policy": "patience-regression",
    "knobs": patience(1, 2, 3, limit=0.5),
}
EVERY = {"knobs": patience(*range(7)), "layers": 6, "seed": 2, "slow": True}
EVERY_LIMIT = {**EVERY, **REGRESSION, "knobs": patience(*range(7), limit=0.3)}
pabee = partial(case_of, PABEE)
PABEES = [
    pabee("pabee-bert", layers=4, labels=3, tokenizer="fast"),
    pabee("pabee-bert-regression", **REGRESSION, layers=4, layout="bin", noise=True, slow=True),
    pabee("pabee-albert-two-groups", backbone="albert", groups=2, labels=3, layers=4, slow=True),
    pabee(
        "pabee-albert",
        backbone="albert",
        layout="original",
        layers=6,
        labels=2,
        noise=True,
        slow=True,
    ),
    pabee("pabee-bert-2", **EVERY, labels=2),
    pabee("pabee-bert-regression-6", **EVERY_LIMIT),
    pabee("pabee-albert-regression", **EVERY_LIMIT, backbone="albert"),
    pabee("pabee-albert-three-groups", **EVERY, backbone="albert", labels=4, groups=3),
    pabee(
        "pabee-albert-two-groups-of-two", **EVERY, backbone="albert", labels=3, groups=2, inner=2
    ),
    pabee(
        "pabee-albert-two-inner-layers",
        backbone="albert",
        inner=2,
        labels=3,
        layers=4,
        tokenizer=None,
        slow=True,
    ),
]

PATIENT = {
    **PABEE,
    "format": "elasticbert",
    "paper": "ElasticBERT",
    "write": write_elasticbert,
    "reference": PatientElasticBertReference,
    "arguments": ("--policy", "patience"),
}
# The first has the checkpoint of `elasticbert`, whose trace serves both.
PATIENTS = [
    case_of(PATIENT, "elasticbert-patience", stored=5, noise=True),
    case_of(PATIENT, "elasticbert-patience-2", labels=2, slow=True),
    case_of(
        PATIENT,
        "elasticbert-patience-regression",
        arguments=(),
        labels=1,
        policy="patience-regression",
        knobs=patience(1, 2, 3, limit=0.3),
        slow=True,
    ),
]


class WindowedPabee(PabeeReference):
    """PABEE's classifiers under ELBERT's bias_1."""

    rule = "bias-1"

    def decide(self, ids: list[int], **knobs: Any) -> Any:
        return elbert_rule(self.exits(ids), self.rule, **knobs)

    def margin(self, ids: list[int], **knobs: Any) -> float:
        return closeness(self.exits(ids), self.rule, **knobs)


# The knobs with which a test starts; not every rule has all of them.
WINDOWS: list[Mapping[str, Any]] = [
    {"threshold": 0.3, "window": 3, "margin": 0.05},
    {"threshold": 0.05, "window": 2, "margin": 0.0},
    {"threshold": -math.inf, "window": 2, "margin": 0.2},
]


def windows(model: ExportedCase) -> list[Knobs]:
    """The knobs that this rule has, and the range: half of what the probabilities cover."""
    return [known(model, knobs | {"range": 0.15}) for knobs in map(dict, WINDOWS)]


def many_windows(model: ExportedCase) -> list[Knobs]:
    """Thresholds at quantiles of what the rule looks at first."""
    reference = model.reference
    seen = [[first_stage(x, reference.rule) for x in reference.exits(r)] for r in model.rows]
    return [
        known(
            model,
            {
                "threshold": float(np.quantile(seen, q)) if q else -math.inf,
                "window": window,
                "margin": margin,
                "range": 0.1 + margin,
            },
        )
        for q, window, margin in ((0.1, 2, 0.0), (0.3, 3, 0.1), (0.6, 1, 0.3), (0.0, 4, 0.02))
    ]


def known(model: ExportedCase, knobs: Mapping[str, Any]) -> Knobs:
    return {name: value for name, value in knobs.items() if name in model.session.knobs}


ELBERT = {
    "format": "elbert",
    "paper": "ELBERT",
    "write": write_elbert,
    "reference": ElbertReference,
    "policy": "elbert-bias-1",
    "architecture": "albert",
    "knobs": windows,
    "least": 2,
    "own": None,
    "at": None,
    "starts": True,
}
elbert: Callable[..., Case] = partial(case_of, ELBERT)
STRUCTURES: Sequence[tuple[str, int, dict[str, Any]]] = [
    ("entropy", 3, {"pooler_input": "mean"}),
    ("entropy", 2, {"num_exit_layers": 6, "use_fc2": True}),
    ("bias_1", 2, {"pooler_input": "max", "num_exit_layers": 3}),
    ("bias_1", 3, {"use_out_pooler": True, "use_fc2": True}),
    ("bias_2", 2, {"pooler_input": "cls-mean"}),
    ("bias_2", 2, {"num_exit_layers": 2}),
    ("bias_3", 2, {"pooler_input": "cls-max", "use_out_pooler": True}),
    ("bias_3", 2, {"range_tmp": 0.2}),
    ("logits", 4, {"pooler_input": "mean-max"}),
]
ELBERTS = [
    elbert(
        "elbert-bias-1",
        exit_thres=0.2,
        cnt_thres=2.0,
        num_exit_layers=2,
        use_fc2=True,
        slow=True,
    ),
    elbert(
        "elbert-bias-3-of-all-tokens",
        policy="elbert-bias-3",
        thres_name="bias_3",
        use_out_pooler=True,
        pooler_input="mean-max",
        padding_free=False,
        slow=True,
    ),
    # The checkpoint of `pabee-bert`, whose trace serves both.
    elbert(
        "pabee-under-bias-1",
        format="pabee",
        paper="PABEE",
        write=write_pabee,
        reference=WindowedPabee,
        architecture="bert",
        arguments=("--policy", "elbert-bias-1"),
        starts=False,
        layers=4,
        labels=3,
        tokenizer="fast",
    ),
    *(
        elbert(
            f"elbert-{number}-{rule}",
            policy=f"elbert-{rule.replace('_', '-')}",
            thres_name=rule,
            labels=labels,
            **settings,
            layers=settings.get("num_exit_layers", 4),
            seed=3,
            knobs=many_windows,
            least=1,
            padding_free=settings.get("pooler_input", "cls") == "cls",
            slow=True,
        )
        for number, (rule, labels, settings) in enumerate(STRUCTURES, start=1)
    ),
]

ACTS = [
    case_of(
        {
            "format": "act",
            "paper": "ALBERT-ACT",
            "write": write_act,
            "reference": ActReference,
            "policy": "act",
            "architecture": "albert",
        },
        "act",
        layers=4,
        knobs=lambda model: [{"threshold": each} for each in (0.6, 0.9, 0.99)],
        least=2,
        own=None,
        at=None,
        starts=True,
    )
]
COUNTING_CASES: list[Case] = [*PABEES, *PATIENTS, *ELBERTS, *ACTS]
