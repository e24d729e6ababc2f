"""Folders of plans for the fake TensorRT: what it loads are the prepared ONNX files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from effbert.runtime import open_bundle
from effbert.runtime.bundle.names import WEIGHTS_NAME
from effbert.runtime.compile.ports import ports_of
from effbert.runtime.engines.plans.index import (
    FORMAT,
    INDEX_NAME,
    VERSION,
    PlanIndex,
    PlanSegment,
    encode_index,
)
from effbert.runtime.engines.plans.trust import trust_hashes
from fake_gpu import VERSION as LIBRARY
from prepared_host import prepare_bundle, requests

SIZES = (1, 4, 64)


def write_plans(bundle: Path, folder: Path, trusted: bool = True, **changes: Any) -> Path:
    """Write plans of a bundle; `changes` are fields of the index."""
    opened = open_bundle(bundle)
    folder.mkdir(parents=True)
    segments = []
    prepared_ones = prepare_bundle(opened, changes.get("compute", "fp32"))
    files = opened.manifest.files
    weights = files[WEIGHTS_NAME].sha256 if WEIGHTS_NAME in files else None
    for (segment, _), prepared in zip(requests(opened), prepared_ones, strict=True):
        ports = ports_of(prepared)
        if segment.file in {item.file for item in segments}:
            continue  # variants share it
        plan = f"{segment.file}.plan"
        (folder / plan).write_bytes(prepared.model)
        sizes = dict.fromkeys((*ports.axes, *(each.name for each in ports.extents)), SIZES)
        segments.append(
            PlanSegment(
                file=segment.file,
                sha256=files[segment.file].sha256,
                weights=weights,
                plan=plan,
                size=len(prepared.model),
                plan_sha256=hashlib.sha256(prepared.model).hexdigest(),
                inputs=ports.inputs,
                outputs=ports.outputs,
                extents=ports.extents,
                profiles=[sizes],
                changes={},
            )
        )
    fields: dict[str, Any] = {
        "engine": "tensorrt-rtx",
        "library": LIBRARY,
        "targets": ["sm86"],
        "compute": "fp32",
        "flags": {},
        **changes,
    }
    index = PlanIndex(format=FORMAT, version=VERSION, segments=segments, **fields)
    (folder / INDEX_NAME).write_bytes(encode_index(index))
    if trusted:
        trust_hashes([item.plan_sha256 for item in segments], "a test")
    return folder
