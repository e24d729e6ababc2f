"""Changes to a bundle on disk, as damage or as the work of an author who lies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from tiny_bundle import file_record

SEGMENT = "segment-00.onnx"
Edit = Callable[[dict[str, Any]], object]


def edited(data: bytes, change: Edit) -> bytes:
    """The bytes of a manifest after `change`."""
    value = json.loads(data)
    change(value)
    return json.dumps(value).encode()


def at(path: str, value: Any) -> Edit:
    """An edit that sets the value at a path like "limits.pad_id" or "segments.0.layer"."""

    def change(manifest: Any) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in parents:
            manifest = manifest[key]
        manifest[last] = value

    return change


def edit_manifest(folder: Path, change: Edit) -> None:
    """Applies `change` to the manifest as plain JSON values."""
    path = folder / "effbert.json"
    path.write_bytes(edited(path.read_bytes(), change))


def write_listed(folder: Path, name: str, data: bytes) -> None:
    """Writes a file and lists it with its right size and hash."""
    (folder / name).write_bytes(data)
    record = file_record(data)
    entry = {"size": record.size, "sha256": record.sha256}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: entry}))


def edit_segment(
    folder: Path, change: Callable[[onnx.ModelProto], object], name: str = SEGMENT
) -> None:
    """Applies `change` to a segment, the first if not said, and lists it with its new hash."""
    model = onnx.ModelProto.FromString((folder / name).read_bytes())
    change(model)
    write_listed(folder, name, model.SerializeToString())
