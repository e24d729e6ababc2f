"""Folders of plans without TensorRT: an index of the tiny bundle, and files instead of plans."""

from __future__ import annotations

import hashlib
from pathlib import Path

from effbert.runtime import Bundle
from effbert.runtime.engines.plans.index import (
    FORMAT,
    INDEX_NAME,
    VERSION,
    PlanIndex,
    PlanPort,
    PlanSegment,
    encode_index,
)

LIBRARY = "1.7.1.116"
RANGE = (1, 8, 32)


def plan_bytes(index: int) -> bytes:
    return b"vtrt" + bytes([index]) * 1000


def write_plans(bundle: Bundle, folder: Path, library: str = LIBRARY) -> PlanIndex:
    """Write plans of every segment, and return the index."""
    folder.mkdir(parents=True, exist_ok=True)
    segments = []
    for number, record in enumerate(bundle.manifest.segments):
        data, name = plan_bytes(number), f"segment-{number:02}.plan"
        (folder / name).write_bytes(data)
        segments.append(
            PlanSegment(
                file=record.file,
                sha256=bundle.manifest.files[record.file].sha256,
                weights=None,
                plan=name,
                size=len(data),
                plan_sha256=hashlib.sha256(data).hexdigest(),
                inputs=[
                    PlanPort(
                        name="attention_mask",
                        dtype="int64",
                        axes=["batch", "sequence"],
                        role="input",
                    )
                ],
                outputs=[PlanPort(name="exit", dtype="bool", axes=["batch"], role="output")],
                extents=[],
                profiles=[{"batch": RANGE, "sequence": RANGE}],
                changes={},
            )
        )
    index = PlanIndex(
        format=FORMAT,
        version=VERSION,
        engine="tensorrt-rtx",
        library=library,
        targets=["sm86", "sm89"],
        compute="fp16",
        flags={"tf32": False},
        segments=segments,
    )
    (folder / INDEX_NAME).write_bytes(encode_index(index))
    return index
