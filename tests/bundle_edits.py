"""Changes to a bundle on disk, as damage or as the work of an author who lies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from tiny_bundle import file_record

SEGMENT = "segment-00.onnx"


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Applies `change` to the manifest as plain JSON values."""
    path = folder / "effbert.json"
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_listed(folder: Path, name: str, data: bytes) -> None:
    """Writes a file and lists it with its right size and hash."""
    (folder / name).write_bytes(data)
    record = file_record(data)
    entry = {"size": record.size, "sha256": record.sha256}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: entry}))


def edit_segment(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    """Applies `change` to the first segment and lists it with its new hash."""
    model = onnx.ModelProto.FromString((folder / SEGMENT).read_bytes())
    change(model)
    write_listed(folder, SEGMENT, model.SerializeToString())
