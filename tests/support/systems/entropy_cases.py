"""Systems whose rows leave where an entropy, or something else below a threshold, is small."""

from __future__ import annotations

from functools import partial
from typing import Any

from checkpoints import write_deebert
from reference import DeeBertReference
from systems.berxit_checkpoint import write_berxit
from systems.berxit_reference import BerxitReference
from systems.case import Case, at_quantiles, case_of, early_quantiles
from systems.elasticbert_checkpoint import write_elasticbert
from systems.elasticbert_reference import ElasticBertReference
from systems.fastbert_checkpoint import write_fastbert
from systems.fastbert_reference import FastBertReference
from systems.gpfee_checkpoint import write_gpfee
from systems.gpfee_reference import GpfeeReference

QUANTILES = at_quantiles(0.1, 0.3, 0.6)
MANY = {"knobs": at_quantiles(0.05, 0.15, 0.3, 0.5, 0.8), "least": 2, "slow": True}

DEEBERT = {
    "format": "deebert",
    "paper": "DeeBERT",
    "write": write_deebert,
    "reference": DeeBertReference,
    "policy": "entropy-exp",
    "knobs": QUANTILES,
}
CASTORINI = {"layout": "castorini", "policy": "entropy-naive"}
deebert = partial(case_of, DEEBERT)
DEEBERTS = [
    deebert("deebert-bert-hf", layers=4, tokenizer="fast", knobs=at_quantiles(0.3, 0.45, 0.6)),
    deebert(
        "deebert-roberta-castorini",
        **CASTORINI,
        backbone="roberta",
        layers=4,
        labels=2,
        tokenizer=None,
        seed=3,
        slow=True,
    ),
    deebert("deebert-bert-castorini", **CASTORINI, **MANY, labels=2, layers=6, seed=2),
    deebert("deebert-bert-hf-4", **MANY, labels=4, layers=6, seed=4),
    deebert(
        "deebert-roberta-hf-4", **MANY, backbone="roberta", labels=4, layers=6, noise=True, seed=4
    ),
    deebert(
        "deebert-roberta-castorini-4",
        **CASTORINI,
        **MANY,
        backbone="roberta",
        labels=4,
        layers=6,
        seed=4,
    ),
]

BERXIT = {
    "format": "berxit",
    "paper": "BERxiT",
    "write": write_berxit,
    "reference": BerxitReference,
    "policy": "entropy-exp",
    "knobs": early_quantiles(0.1, 0.3, 0.6),
}
LEARNED = {"divide": "alternate-lte", "policy": "learned"}
TOLD = {
    "arguments": ("--last-highway", "on"),
    "reference": partial(BerxitReference, last_highway=True),
}
SHAPES: dict[str, dict[str, Any]] = {
    "learned-bert": {**LEARNED, "labels": 3},
    "learned-bert-regression": {"divide": "raw-lte", "policy": "learned", "labels": 1},
    "roberta": {"backbone": "roberta", "divide": "two_stage", "labels": 4},
    "albert-two-groups": {"backbone": "albert", "labels": 2, "groups": 2},
    "albert-inner": {"backbone": "albert", "divide": "alternate-lte", "labels": 3, "inner": 2},
    "distilbert": {"backbone": "distilbert", "labels": 4},
    "learned-distilbert": {
        "backbone": "distilbert",
        "divide": "all-lte",
        "policy": "learned",
        "labels": 2,
    },
}
berxit = partial(case_of, BERXIT)
BERXITS = [
    berxit("berxit-entropy", noise=True, slow=True),
    berxit("berxit-learned", **LEARNED, backbone="roberta", labels=2, seed=3),
    *(
        berxit(f"berxit-{name}", **options, seed=2, slow=True, least=2)
        for name, options in SHAPES.items()
    ),
    *(
        berxit(f"berxit-{name}-last-highway", **SHAPES[name], **TOLD, seed=2, slow=True, least=2)
        for name in ("albert-two-groups",)
    ),
    berxit("berxit-learned-regression", **LEARNED, backbone="distilbert", labels=1, slow=True),
]

FASTBERT = {
    "format": "fastbert",
    "paper": "FastBERT",
    "write": write_fastbert,
    "reference": FastBertReference,
    "policy": "entropy-fastbert",
    "knobs": QUANTILES,
    "at": "leaves",
}
PACKAGED = {"layout": "pypi", "policy": "entropy-categorical", "at": "goes on"}
fastbert = partial(case_of, FASTBERT)
FASTBERTS = [
    fastbert("fastbert-research", labels=3, noise=True, slow=True),
    fastbert("fastbert-pypi", **PACKAGED, labels=2, pooling="first", tokenizer=None),
    *(
        fastbert(
            f"fastbert-{pooling}-{labels}{suffix}",
            **layout,
            pooling=pooling,
            labels=labels,
            seed=4,
            padding_free=pooling == "first",
            slow=True,
            least=2,
        )
        for suffix, layout, shapes in (
            ("", {}, (("last", 2), ("max", 4))),
            ("-pypi", PACKAGED, (("max", 2),)),
        )
        for pooling, labels in shapes
    ),
    fastbert("fastbert-first-5", pooling="first", labels=5, seed=4, slow=True, least=2),
]

ELASTICBERT = {
    "format": "elasticbert",
    "paper": "ElasticBERT",
    "write": write_elasticbert,
    "reference": ElasticBertReference,
    "policy": "entropy-exp",
    "knobs": at_quantiles(0.25, 0.4, 0.7),
}
RARELY = {**MANY, "least": 1}
elasticbert = partial(case_of, ELASTICBERT)
ELASTICBERTS = [
    elasticbert("elasticbert", stored=5, noise=True),
    elasticbert("elasticbert-unpooled", **MANY, pooled=False, labels=2),
    elasticbert("elasticbert-4-of-6", **RARELY, layers=6, exits=4, exit_layers=(3, 4, 5, 6)),
    elasticbert(
        "elasticbert-2-of-6", **RARELY, layers=6, exits=2, stored=6, labels=4, exit_layers=(5, 6)
    ),
    elasticbert("elasticbert-6-of-12", **MANY, layers=6, stored=12, tokenizer="fast"),
]

GPFEE = {
    "format": "gpfee",
    "paper": "Past-Future",
    "write": write_gpfee,
    "reference": GpfeeReference,
    "policy": "entropy-naive",
    "knobs": QUANTILES,
}
gpfee = partial(case_of, GPFEE)
GPFEES = [
    gpfee("gpfee-bert", labels=2, slow=True),
    gpfee("gpfee-roberta", backbone="roberta", noise=True, slow=True),
    gpfee("gpfee-albert", backbone="albert", tokenizer=None, slow=True),
    gpfee("gpfee-bert-4", **MANY, labels=4, layers=6),
    gpfee("gpfee-albert-two-groups", **MANY, backbone="albert", groups=2, layers=6),
    gpfee("gpfee-albert-two-inner-layers", **MANY, backbone="albert", inner=2, labels=2),
]
ENTROPY_CASES: list[Case] = [*DEEBERTS, *BERXITS, *FASTBERTS, *ELASTICBERTS, *GPFEES]
