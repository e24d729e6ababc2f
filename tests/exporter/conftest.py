"""Every checkpoint of the suite, exported once in a test run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

from checkpoints import write_deebert, write_pabee
from effbert.exporter import export
from effbert.runtime import Session
from reference import DeeBertReference, PabeeReference
from vocabularies import random_rows

CHECKPOINTS: dict[str, tuple[Callable[..., Path], dict[str, object]]] = {
    "deebert-bert-hf": (write_deebert, {"tokenizer": "fast"}),
    "deebert-bert-castorini": (write_deebert, {"layout": "castorini", "labels": 2}),
    "deebert-roberta-hf": (write_deebert, {"backbone": "roberta", "labels": 4, "noise": True}),
    "deebert-roberta-castorini": (
        write_deebert,
        {"backbone": "roberta", "layout": "castorini", "labels": 2, "tokenizer": None, "seed": 3},
    ),
    "pabee-bert": (write_pabee, {"labels": 3, "tokenizer": "fast"}),
    "pabee-bert-regression": (write_pabee, {"labels": 1, "layout": "bin", "noise": True}),
    "pabee-albert": (write_pabee, {"backbone": "albert", "layout": "original", "noise": True}),
    "pabee-albert-two-groups": (write_pabee, {"backbone": "albert", "groups": 2, "labels": 3}),
    "pabee-albert-two-inner-layers": (
        write_pabee,
        {"backbone": "albert", "inner": 2, "labels": 3, "layers": 4, "tokenizer": None},
    ),
    # Large enough for its layers to be shared through weights.bin.
    "pabee-albert-wide": (
        write_pabee,
        {"backbone": "albert", "hidden": 512, "layers": 4, "tokenizer": None},
    ),
    "deebert-bert-wide": (write_deebert, {"hidden": 256, "layers": 3, "tokenizer": None}),
}


@dataclass(frozen=True)
class Exported:
    """A checkpoint, its bundle, and what both are judged by."""

    name: str
    checkpoint: Path
    bundle: Path

    @cached_property
    def reference(self) -> DeeBertReference | PabeeReference:
        kind = DeeBertReference if self.name.startswith("deebert") else PabeeReference
        return kind(self.checkpoint)

    @cached_property
    def session(self) -> Session:
        return Session(self.bundle, threads=1)

    @cached_property
    def rows(self) -> list[list[int]]:
        return list(random_rows(self.reference.backbone.prefix, 200))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Name of a checkpoint -> that checkpoint, exported with default options."""

    @cache
    def make(name: str) -> Exported:
        write, options = CHECKPOINTS[name]
        folder = tmp_path_factory.mktemp(name)
        checkpoint = write(folder / "checkpoint", **options)
        export(checkpoint, folder / "bundle")
        return Exported(name, checkpoint, folder / "bundle")

    return make
