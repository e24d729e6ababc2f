"""The manifest reader and writer: strict JSON, versions, unknown fields, any bytes at all."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle_edits import Edit, at, edited
from effbert.runtime.bundle import manifest as m
from effbert.runtime.bundle.parse import encode_manifest, parse_manifest
from effbert.runtime.bundle.schema import manifest_schema
from effbert.runtime.errors import ManifestError, VersionError


def test_writing_what_was_read_gives_the_same_bytes(data: bytes) -> None:
    assert encode_manifest(parse_manifest(data)) == data


@pytest.mark.skipif(
    tuple(map(int, msgspec.__version__.split(".")[:2])) < (0, 22),
    reason="older versions of msgspec write the same schema in another order",
)
def test_the_schema_file_is_current() -> None:
    file = Path(m.__file__).with_name("manifest.schema.json")
    assert file.read_text("utf-8") == manifest_schema(), (
        "run: python -m effbert.runtime.bundle.schema > runtime/bundle/manifest.schema.json"
    )


def test_a_manifest_too_large_to_read_is_not_written(data: bytes) -> None:
    manifest = parse_manifest(data)
    long = msgspec.structs.replace(manifest, labels=["x" * 4096] * 300)
    with pytest.raises(ManifestError, match="would have"):
        encode_manifest(long)


def test_numbers_that_are_not_finite_are_strings(data: bytes) -> None:
    edit = at("knobs.0.maximum", "inf")
    manifest = parse_manifest(edited(data, edit))
    assert m.to_float(manifest.knobs[0].maximum) == float("inf")
    assert b'"maximum": "inf"' in encode_manifest(manifest)


def test_float32_values_are_written_short_and_come_back_as_the_same_float32(data: bytes) -> None:
    value = float(np.float32(0.1))
    manifest = parse_manifest(edited(data, at("knobs.0.default", value)))
    written = encode_manifest(manifest)
    assert b'"default": 0.1,' in written
    assert np.float32(parse_manifest(written).knobs[0].default) == np.float32(0.1)


JSON_TRAPS = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"effbert-bundle"',
    "not UTF-8": b'{"format": "\xff"}',
    "UTF-16": '{"format": "effbert-bundle"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "NUL": b"\0",
    "unclosed": b'{"format": ',
    "two documents": b"{} {}",
    "comment": b"{} // hello",
    "trailing comma": b'{"a": 1,}',
    "same key twice": b'{"format": 1, "format": 1}',
    "NaN": b'{"x": NaN}',
    "Infinity": b'{"x": -Infinity}',
    "too large a float": b'{"x": 1e999}',
    "5000 digits": b'{"x": ' + b"9" * 5000 + b"}",
    "21 digits": b'{"x": ' + b"9" * 21 + b"}",
    "lone surrogate": b'{"x": "\\ud800"}',
    "lone surrogate in a key": b'{"\\udfff": 1}',
    "100,000 brackets": b"[" * 100_000,
    "100,000 braces": b'{"a":' * 100_000,
    "nested 17 deep": b"[" * 17 + b"]" * 17,
}


@pytest.mark.parametrize("name", JSON_TRAPS)
def test_a_json_trap_is_one_clear_sentence(name: str) -> None:
    with pytest.raises(ManifestError, match=r"^effbert\.json is not .*\.$") as caught:
        parse_manifest(JSON_TRAPS[name])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "version, min_reader, message",
    [
        ([2, 0], [2, 0], "has format version 2.0 .* this effbert reads 1.1: upgrade effbert"),
        ([99, 3], [1, 0], "has format version 99.3 .* upgrade effbert"),
        ([1, 4], [1, 2], "needs a reader of 1.2 or newer; this effbert reads 1.1: upgrade"),
        ([0, 9], [0, 9], "has format version 0.9 .* export it again"),
    ],
)
def test_another_version_is_refused_naming_both_and_the_way_out(
    data: bytes, version: list[int], min_reader: list[int], message: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest.update(version=version, min_reader=min_reader, a_field_of_the_future=1)

    with pytest.raises(VersionError, match=message):
        parse_manifest(edited(data, change))


def test_a_newer_minor_version_is_read(data: bytes) -> None:
    manifest = parse_manifest(edited(data, at("version", [1, 7])))
    assert manifest.version == (1, 7)


@pytest.mark.parametrize("version", ["1.0", [1], [1, 0, 0], [1, "0"], [True, 0], None, [1.5, 0]])
def test_a_malformed_version_is_refused(data: bytes, version: Any) -> None:
    with pytest.raises(ManifestError, match=r"\$\.version"):
        parse_manifest(edited(data, at("version", version)))


@pytest.mark.parametrize("place", ["", "segments.0", "knobs.0", "files.tokenizer.json", "limits"])
def test_keys_starting_with_x_are_ignored_and_other_unknown_keys_are_refused(
    data: bytes, place: str
) -> None:
    def add(key: str) -> Edit:
        def change(manifest: Any) -> None:
            keys = [place[:5], place[6:]] if place.startswith("files") else place.split(".")
            for part in keys if place else []:
                manifest = manifest[int(part) if part.isdigit() else part]
            manifest[key] = {"anything": [1, 2]}

        return change

    assert parse_manifest(edited(data, add("x-note"))) == parse_manifest(data)
    with pytest.raises(ManifestError, match=r"unknown field `note`"):
        parse_manifest(edited(data, add("note")))


ODD = ["batch", "exit", "inf", "nan", "../x", "float32", 1 << 60, -1]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside `value`."""
    items: Any = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path] if path else []
    for key, item in items:
        found += places(item, (*path, key))
    return found


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_random_change_is_refused_or_survives_writing(data: bytes, draws: st.DataObject) -> None:
    value = json.loads(data)
    *parents, last = draws.draw(st.sampled_from(places(value)))
    node = value
    for key in parents:
        node = node[key]
    if draws.draw(st.booleans()):
        node[last] = draws.draw(JSON)
    else:
        del node[last]
    try:
        manifest = parse_manifest(json.dumps(value).encode())
    except (ManifestError, VersionError):
        return
    again = encode_manifest(manifest)
    assert encode_manifest(parse_manifest(again)) == again


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 10_000), st.integers(0, 20))
def test_random_bytes_in_a_manifest_never_crash_the_reader(
    data: bytes, noise: bytes, position: int, removed: int
) -> None:
    position %= len(data)
    changed = data[:position] + noise + data[position + removed :]
    with suppress(ManifestError, VersionError):
        parse_manifest(changed)
