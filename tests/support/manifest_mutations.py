"""Manifests that are wrong in one or two places, or right in an unusual way."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from task_bundles import build_question_bundle, build_token_bundle
from tiny_bundle import build_tiny_bundle
from variant_bundle import build_variant_bundle

NUMBERS = (
    0, 1, 2, -1, 3, 4, 64, 65, 512, 513, 1023, 1025, 8192, 8193, 1 << 20, (1 << 20) + 1,
    2_000_000, 1_999_999, 1 << 36, (1 << 40) + 1, 1 << 53, (1 << 53) + 1, 1 << 63, 10**19,
    10**20 - 1, 10**20, -(1 << 63), -(10**19) + 1, -(10**19), 0.0, -0.0, 0.5, 1.0, 1.5, 2.0,
    1e300, -1e300, 5e-324, 3.5e38,
)  # fmt: skip
WORDS = (
    "", "inf", "-inf", "nan", "NaN", "batch", "sequence", "tokens", "float32", "int64", "bool",
    "exit", "signal", "logits", "input_ids", "attention_mask", "hidden", "exit_layer",
    "earlier", "later", "text-classification", "token-classification", "question-answering",
    "single-label", "softmax", "int8", "x-note", "effbert.json", "Effbert.JSON", "com1.onnx",
    "a..b", "a.", "../x", "a/b", "a\n", "é", "\x00", "😀", "1", "true", "left", "right",
    "threshold", "width", "depth", "a" * 64, "a" * 65, "a" * 128, "a" * 129, "é" * 4096,
    "é" * 4097, "0" * 64, "0" * 63 + "G",
)  # fmt: skip
OTHERS = (None, True, False, [], {}, [1], {"a": 1}, [[[]]], ["batch"])
BYTES = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"0", b"1", b"-", b".", b"e", b"E5", b" ",
    b"\t", b"\n", b"\r", b"\x0b", b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xc3", b"\xa9",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\u0041", b"\\ud800", b"\\ud83d\\ude00", b"\\ude00",
    b"\\x", b"\\/", b"null", b"NaN", b"Infinity", b"1e400", b"1e-400", b"1.", b".5", b"01",
    b"+1", b"//", b"[" * 20, b"x-",
)  # fmt: skip


def whole_manifests(folder: Path) -> list[Any]:
    """Manifests of every kind, as plain values: tasks, policies, shared weights, sizes, knobs."""
    bundles = [
        build_tiny_bundle(folder / "entropy"),
        build_tiny_bundle(folder / "patience", policy="patience"),
        build_tiny_bundle(folder / "shared", shared_weights=True),
        build_token_bundle(folder / "token"),
        build_question_bundle(folder / "question"),
        build_variant_bundle(folder / "sizes", folder / "parts"),
    ]
    found = [json.loads((bundle / "effbert.json").read_bytes()) for bundle in bundles]
    return [*found, _rich(found[0]), _rich(found[5])]


def _rich(manifest: Any) -> Any:
    """The same with every optional field."""
    rich = deepcopy(manifest)
    knob = {"dtype": "float32", "minimum": 0, "maximum": 8192, "default": 8192, "never": 8192,
            "per_exit": False, "raising": "later"}  # fmt: skip
    rich["knobs"] += [
        {**knob, "name": "lengths", "unit": "tokens", "count": 3, "default": [8192, 5, 0.5]},
        {**knob, "name": "gate", "dtype": "int64", "per_exit": True, "default": [1, 2, 3]},
    ]
    for segments in (rich["segments"], *(v["segments"] for v in rich.get("variants", []))):
        segments[1]["inputs"] += [
            {"name": "lengths", "dtype": "float32", "axes": [3]},
            {"name": "gate", "dtype": "int64", "axes": []},
        ]
    rich["operating_points"].append({
        "name": "fast", "knobs": {"lengths": [9, 8, 7.0], "gate": 4}, "data": "made up",
        "quality": {"accuracy": 0.5}, "cost": {"flops": 1e9, "x-note": 1},
        "guarantee": {"risk": 0.01, "confidence": 0.95},
        "exits": {"layers": {"1": 300, "3": 212}, "signal": [0.25, 0.125]},
    })  # fmt: skip
    rich["activation"], rich["precision"] = "softmax", "int8"
    rich["limits"] |= {"min_length": 2, "pad_id": 0}
    rich["tokenizer"] |= {"truncation_side": "left", "token_types": False}
    rich["parity"] = {
        "atol": 1e-5, "rows": 3, "max_abs_diff": [0, 1e-7, "nan"], "decisions": 9,
        "decisions_near_threshold": 0, "same_answers": 1, "same_decisions": 0.5, "texts": 3,
    }  # fmt: skip
    rich["x-note"] = {"anything": [[[[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]]], "lone": 1}
    return rich


def mutated_manifests(whole: list[Any], count: int, seed: int) -> Iterator[bytes]:
    """Yield so many documents, most of them JSON."""
    draw = random.Random(seed)
    for _ in range(count):
        value = deepcopy(draw.choice(whole))
        for _ in range(draw.choice((0, 1, 1, 1, 2))):
            _change(draw, value)
        data = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode()
        if draw.random() < 0.3:
            data = _change_bytes(draw, data)
        yield data


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)) and value:
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)


def _place(draw: random.Random, value: Any) -> tuple[Any, Any]:
    """Any value's container and its key there; all depths are about as likely."""
    inside = draw.choice([item for item in [*_containers(value)] if len(item)])
    key = draw.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
    if draw.random() < 0.3 and inside is not value:  # long golden rows hide the rest
        inside, key = value, draw.choice(list(value))
        while isinstance(inside[key], (dict, list)) and inside[key] and draw.random() < 0.8:
            inside = inside[key]
            key = draw.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
    return inside, key


def _change(draw: random.Random, value: Any) -> None:
    inside, key = _place(draw, value)
    kind = draw.random()
    if kind < 0.1:
        del inside[key]
    elif kind < 0.2 and isinstance(inside, dict):
        name = draw.choice((*WORDS, "x-more", "note", key.upper(), key + "\n"))
        inside[name] = inside.pop(key) if draw.random() < 0.5 else deepcopy(inside[key])
    elif kind < 0.3 and isinstance(inside, list):
        inside.insert(draw.randrange(len(inside) + 1), deepcopy(inside[key]))
    elif kind < 0.35 and isinstance(inside, list):
        draw.shuffle(inside)
    elif kind < 0.45:
        other, place = _place(draw, value)
        inside[key] = deepcopy(other[place])
    elif kind < 0.55 and isinstance(inside, dict):
        inside["x-more"] = {"deep": [[[[{"x": [None, -0]}]]]]}
    else:
        inside[key] = _other(draw, inside[key])


def _other(draw: random.Random, value: Any) -> Any:
    """A value near this one, or any."""
    near = draw.random() < 0.6
    if near and isinstance(value, bool):
        return draw.choice((not value, int(value), None))
    if near and isinstance(value, (int, float)):
        return draw.choice((value + 1, value - 1, -value, value * 2, float(value), str(value)))
    if near and isinstance(value, str):
        at = draw.randrange(len(value) + 1)
        return value[:at] + draw.choice(("x", "1", "é", "\n", "_", "-", "A", "")) + value[at + 1 :]
    if near and isinstance(value, (dict, list)):
        return draw.choice((type(value)(), None, [deepcopy(value)], list(value)))
    return deepcopy(draw.choice(draw.choice((NUMBERS, WORDS, OTHERS))))


def _change_bytes(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data))
    kind = draw.random()
    if kind < 0.4:
        return data[:at] + draw.choice(BYTES) + data[at:]
    if kind < 0.6:
        return data[:at] + draw.choice(BYTES) + data[at + 1 :]
    if kind < 0.7:
        return data[:at] + data[at + draw.choice((1, 2, 50)) :]
    if kind < 0.75:
        return data[:at]
    if kind < 0.85:
        end = at + draw.randrange(60)
        return data[:end] + data[at:]
    return draw.choice((data + b"\n \t\r", b" " + data, data + b"x", data.replace(b" ", b"")))
