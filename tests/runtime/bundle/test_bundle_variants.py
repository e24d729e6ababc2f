"""Variants that contradict each other or the knobs that select them are refused."""

from __future__ import annotations

import json

import pytest

from bundle_edits import Edit, at, edited
from effbert.runtime.bundle.parse import parse_manifest
from effbert.runtime.errors import ManifestError
from variant_bundle import build_variant_bundle

FIRST = r"\$\.variants\[0\]"
CONTRADICTIONS: dict[str, tuple[Edit, str]] = {
    "file not listed": (at("variants.0.segments.1.file", "no.onnx"), FIRST + r"\.segments\[1\]"),
    "chain broken": (at("variants.0.segments.0.carries", {}), FIRST + ".*'hidden' is no input"),
    "no exit": (at("variants.0.segments.0.outputs.2.name", "leave"), FIRST + ".*'exit' is missing"),
    "other answers": (
        lambda manifest: [
            segment["outputs"][0].update(axes=["batch", 4])
            for segment in manifest["variants"][0]["segments"]
        ],
        FIRST + ".*other types or axes",
    ),
    "fewer exits": (lambda manifest: manifest["variants"][0]["segments"].pop(), "2 exits, but"),
    "golden row": (at("variants.0.golden.0.input_ids.1", 50), FIRST + r"\.golden\[0\]\.input_ids"),
    "a choice missing": (lambda manifest: manifest["variants"][0]["knobs"].pop("width"), FIRST),
    "another knob": (at("variants.0.knobs.threshold", 1), "expected a value for each knob"),
    "a size twice": (
        lambda manifest: manifest["variants"].append(manifest["variants"][2]),
        r"\$\.variants\[3\]\.knobs: width 0\.5, depth 0\.5 selects an earlier",
    ),
    "the default twice": (at("variants.0.knobs", {"width": 1, "depth": 1}), "an earlier variant"),
    "a size that is no choice": (at("variants.0.knobs.width", 0.75), "choices of 'width'"),
    "a choice without variant": (at("knobs.1.choices", [0.5, 0.75, 1]), "choices of 'width'"),
    "choices that fall": (at("knobs.1.choices", [1, 0.5]), r"knobs\[1\]\.choices.*rise"),
    "choices beyond the range": (at("knobs.1.choices", [0.25, 1]), "minimum and maximum"),
    "a choice that is nan": (at("knobs.1.choices", ["nan", 1]), r"\$\.knobs\[1\]\.choices"),
    "no choices": (at("knobs.1.choices", []), "choices"),
    "several by default": (at("knobs.1.default", [0.5, 1.0]), r"knobs\[1\]\.default.*largest"),
    "small by default": (at("knobs.1.default", 0.5), r"knobs\[1\]\.default.*largest"),
    "small if never": (at("knobs.1.never", 0.5), r"knobs\[1\]\.never"),
    "one an exit": (at("knobs.1.per_exit", True), "selected by one number"),
    "variants that nothing selects": (
        lambda manifest: manifest.update(knobs=manifest["knobs"][:1]),
        FIRST + r"\.knobs: expected",
    ),
    "a graph that reads a selector": (
        lambda manifest: manifest["segments"][0]["inputs"].append(
            {"name": "width", "dtype": "float32", "axes": []}
        ),
        "'width' is no input",
    ),
    "a point with another size": (
        at("operating_points", [{"name": "p", "knobs": {"width": 0.75}, "data": ""}]),
        "none of the choices",
    ),
    "a point without variant": (
        lambda manifest: manifest.update(
            variants=manifest["variants"][:2],
            operating_points=[{"name": "p", "knobs": {"width": 0.5, "depth": 0.5}, "data": ""}],
        ),
        r"\$\.operating_points\[0\]\.knobs: there is no such variant",
    ),
}


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("variants")
    return (build_variant_bundle(folder / "bundle", folder) / "effbert.json").read_bytes()


def test_the_manifest_itself_is_fine(variants: bytes) -> None:
    assert len(parse_manifest(variants).variants) == 3


def test_a_manifest_without_the_new_fields_is_read(data: bytes) -> None:
    value = json.loads(data)
    del value["variants"]
    assert parse_manifest(json.dumps(value).encode()).variants == []


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_refused_naming_the_field(variants: bytes, name: str) -> None:
    change, message = CONTRADICTIONS[name]
    with pytest.raises(ManifestError, match=message):
        parse_manifest(edited(variants, change))
