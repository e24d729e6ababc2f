"""The strict parser of `effbert.json`, and its writer."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from effbert.runtime.bundle.manifest import VERSION, Manifest
from effbert.runtime.bundle.names import MANIFEST_NAME
from effbert.runtime.bundle.rules import find_problems
from effbert.runtime.bundle.strict_json import read_json, write_json
from effbert.runtime.errors import ManifestError, VersionError

MAX_MANIFEST_BYTES = 1 << 20


def parse_manifest(data: bytes) -> Manifest:
    """Read and check the bytes of `effbert.json`.

    Keys that start with `x-` are ignored wherever they are, other unknown keys are refused.

    Raises:
        ManifestError: Bad JSON, a bad field, a limit exceeded or records that contradict each
            other; the message names the JSON path.
        VersionError: The bundle needs a newer reader.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"{MANIFEST_NAME} has {len(data)} bytes, more than the {MAX_MANIFEST_BYTES} allowed."
        )
    try:
        value = read_json(data)
    except ValueError as error:
        raise ManifestError(f"{MANIFEST_NAME} is not valid JSON: {error}.") from None
    _check_version(value)
    try:
        manifest = msgspec.convert(value, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{MANIFEST_NAME} is not valid: {error}.") from None
    problems = find_problems(manifest)
    if problems:
        more = f" (and {len(problems) - 5} more problems)" if len(problems) > 5 else ""
        raise ManifestError(f"{MANIFEST_NAME} is not valid: {'; '.join(problems[:5])}{more}.")
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as readable JSON: the same manifest always gives the same bytes.

    Raises:
        ManifestError: The text would be larger than any reader accepts.
    """
    data = write_json(msgspec.to_builtins(manifest))
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"{MANIFEST_NAME} would have {len(data)} bytes, more than the {MAX_MANIFEST_BYTES} "
            "allowed; use fewer or shorter golden rows."
        )
    return data


def _check_version(value: Any) -> None:
    # Before the types: a later major version may have other fields altogether.
    try:
        head = msgspec.convert(value, _Head)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{MANIFEST_NAME} is not a bundle manifest: {error}.") from None
    if head.version[0] != VERSION[0] or head.min_reader > VERSION:
        found, needed, ours = (f"{a}.{b}" for a, b in (head.version, head.min_reader, VERSION))
        way_out = "export it again" if head.version < VERSION else "upgrade effbert"
        raise VersionError(
            f"The bundle has format version {found} and needs a reader of {needed} or newer; "
            f"this effbert reads {ours}: {way_out}."
        )


class _Head(Struct):
    format: Literal["effbert-bundle"]
    version: tuple[int, int]
    min_reader: tuple[int, int]
