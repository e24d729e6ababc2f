"""A tiny bundle in four sizes; each variant is the tiny bundle of another seed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from bundle_edits import edit_manifest, write_listed
from tiny_bundle import build_tiny_bundle

CHOICES: dict[str, list[float]] = {"width": [0.5, 1], "depth": [0.5, 1]}
COMBINATIONS = [
    dict(zip(CHOICES, values, strict=True)) for values in itertools.product([1, 0.5], repeat=2)
]


def build_variant_bundle(folder: Path, parts: Path) -> Path:
    """Writes the bundle into `folder`, and variant k as a bundle of its own into `parts`/k."""
    build_tiny_bundle(folder)
    edit_manifest(folder, lambda manifest: manifest["knobs"].extend(map(_selector, CHOICES)))
    for k, combination in enumerate(COMBINATIONS):
        one = json.loads((build_tiny_bundle(parts / str(k), seed=k) / "effbert.json").read_text())
        if k:
            for segment in one["segments"]:
                data = (parts / str(k) / segment["file"]).read_bytes()
                segment["file"] = f"size-{k}-{segment['file']}"
                write_listed(folder, segment["file"], data)
            variant = {"knobs": combination, "segments": one["segments"], "golden": one["golden"]}
            _add(folder, variant)
    return folder


def _add(folder: Path, variant: dict[str, Any]) -> None:
    edit_manifest(folder, lambda manifest: manifest["variants"].append(variant))


def _selector(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "dtype": "float32",
        "minimum": CHOICES[name][0],
        "maximum": CHOICES[name][-1],
        "default": CHOICES[name][-1],
        "never": CHOICES[name][-1],
        "per_exit": False,
        "raising": "later",
        "choices": CHOICES[name],
    }
