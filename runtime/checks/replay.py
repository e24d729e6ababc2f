"""Prove that a bundle is what its exporter wrote: hashes, known answers, known token ids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from effbert.runtime.bundle.folder import Bundle, open_bundle
from effbert.runtime.bundle.manifest import Golden
from effbert.runtime.bundle.variants import split_variants
from effbert.runtime.checks.rows_apart import rows_apart
from effbert.runtime.engines.row_independence import DIFFERENCES
from effbert.runtime.engines.table import ENGINES, installed_engines
from effbert.runtime.errors import IntegrityError, MissingDependencyError
from effbert.runtime.session import Session
from effbert.runtime.texts.tokenization import TextEncoder

TOLERANCE = 1e-4
LOWERED = 0.5  # of a precision below float32 that was not verified
LEVEL = 0.2  # of integers that plans round to the next level
NARROW = {"fp16": 1e-2, "bf16": 1e-1}  # plans that compute in 16 bits, also as a share


@dataclass(frozen=True)
class Validation:
    """What was found to be right.

    Attributes:
        files: Files whose size and hash were compared.
        bytes: Their total size.
        rows: Golden rows whose outputs were computed again at every exit, those of all variants.
        texts: Golden texts that were tokenized again.
        max_abs_diff: Worst difference between a golden and a computed output, None without rows.
        nodes: Graph nodes inspected, None unless deep.
        engine: What computed the golden rows, None without rows.
        rows_apart: Largest difference between a row alone and in a batch, None unless it was
            measured now.
    """

    files: int
    bytes: int
    rows: int
    texts: int
    max_abs_diff: float | None
    nodes: int | None
    engine: str | None
    rows_apart: float | None = None


def validate(
    path: str | os.PathLike[str],
    *,
    deep: bool = False,
    replay: bool = True,
    engine: str | None = None,
    revision: str | None = None,
    where: Mapping[str, Any] | None = None,
) -> Validation:
    """Check a bundle completely.

    Args:
        path: The bundle's folder, or its id on the hub.
        deep: Also inspect the graphs, see `checks.graphs` (needs the `export` extra).
        replay: Also tokenize the golden texts and compute the golden rows again.
        engine: What computes the golden rows; None is the first engine that is installed.
        revision: Branch, tag or commit of a bundle on the hub.
        where: What `Session` is told of devices and plans, for engines that need them.

    Raises:
        BundleError: The first thing that is wrong.
        MissingDependencyError: `deep` without the onnx library, or `replay` without an engine.
    """
    bundle = open_bundle(path, revision)
    size = bundle.verify_files()
    nodes = _inspect_graphs(bundle) if deep else None
    texts = _replay_texts(bundle) if replay else 0
    variants = [Bundle(bundle.path, one) for one in split_variants(bundle.manifest) if one.golden]
    name = (engine or installed_engines()[0]) if replay and variants else None
    replayed = [_replay_rows(variant, name, where or {}) for variant in variants] if name else []
    apart = [found.apart for found in replayed if found.apart is not None]
    return Validation(
        files=len(bundle.manifest.files),
        bytes=size,
        rows=sum(len(variant.manifest.golden) for variant in variants) if replay else 0,
        texts=texts,
        max_abs_diff=max((found.difference for found in replayed), default=None),
        nodes=nodes,
        engine=name,
        rows_apart=max(apart, default=None),
    )


def _inspect_graphs(bundle: Bundle) -> int:
    try:
        from effbert.runtime.checks.graphs import inspect_graphs
    except ImportError as error:
        raise MissingDependencyError(
            "Deep validation reads the graphs with the onnx library, which is not installed: "
            "pip install 'effbert[export]'."
        ) from error
    return inspect_graphs(bundle)


def _replay_texts(bundle: Bundle) -> int:
    record = bundle.manifest.tokenizer
    if record is None:
        return 0
    encoder = TextEncoder(bundle)
    tokenizer = Tokenizer.from_buffer(bundle.read(record.file))
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if size != record.vocab_size:
        raise IntegrityError(
            f"{record.file} has {size} token ids, the manifest says {record.vocab_size}; it is "
            "not the tokenizer of this model."
        )
    for token, index in record.special_ids.items():
        if tokenizer.token_to_id(token) != index:
            raise IntegrityError(
                f"{record.file} gives {token!r} the id {tokenizer.token_to_id(token)}, the "
                f"manifest says {index}; it is not the tokenizer of this model."
            )
    rows = [row for row in bundle.manifest.golden if row.text]
    for k, row in enumerate(rows):
        texts = row.text or []
        text = texts[0] if len(texts) == 1 else (texts[0], texts[1])
        if encoder.encode([text])[0].ids != row.input_ids:
            raise IntegrityError(
                f"{record.file} turns golden text {k} into other token ids than at export; it is "
                "not the tokenizer of this model."
            )
    return len(rows)


class _Replayed(NamedTuple):
    """The worst difference to golden outputs, and between a row alone and in a batch."""

    difference: float
    apart: float | None


def _replay_rows(bundle: Bundle, engine: str, where: Mapping[str, Any]) -> _Replayed:
    worst = 0.0
    to_measure = ENGINES[engine].on_request if engine in ENGINES else False
    with Session(bundle, engine, dependent_rows=to_measure, **where) as session:
        absolute, relative = _tolerance(session)
        for k, row in enumerate(bundle.manifest.golden):
            found = session.run_exits(_inputs(row))
            for name, values in row.outputs.items():
                expected = np.asarray(values, np.float64)
                difference = np.abs(found[name][:, 0] - expected)
                by_exit = difference.reshape(len(difference), -1).max(axis=1)
                near = difference <= absolute + relative * np.abs(expected)  # nan counts as wrong
                wrong = np.flatnonzero(~near.reshape(len(near), -1).all(axis=1))
                if wrong.size:
                    share = f" and {relative:g} of it" if relative else ""
                    at = f"exit {wrong[0]} ({session.exits[wrong[0]].file})"
                    raise IntegrityError(
                        f"Golden row {k}: {name} of {at} differs by "
                        f"{by_exit[wrong[0]]:.2g} from the value at export (allowed "
                        f"{absolute:.0e}{share}); graphs and manifest do not belong together, or "
                        "the engine computes wrongly."
                    )
                worst = max(worst, float(by_exit.max()))
        if session.compiled is None:
            return _Replayed(worst, None)
        apart = rows_apart(session)
        session.compiled.keep_rows(apart)
        return _Replayed(worst, apart)


def _tolerance(session: Session) -> tuple[float, float]:
    """How far a golden row may be off, and by which share of a number on top of that.

    That is rounding, of float32 or of the bundle's own precision; float32's follows the scale of
    the answers, and so does what the export allowed.

    An engine whose rounding depends on the batch rounds otherwise than the one at export, too. So
    does one whose plans compute in 16 bits.
    """
    manifest, engine = session.bundle.manifest, session.engine
    parity = manifest.parity
    compute = None if session.compiled is None else session.compiled.compute
    narrow = NARROW.get(compute or "", 0.0)
    if manifest.precision == "fp32":
        own = (parity.atol or TOLERANCE) if parity else TOLERANCE
        return max(own, narrow), max(TOLERANCE, narrow)
    own = max(map(float, parity.max_abs_diff), default=LOWERED) if parity else LOWERED
    level = LEVEL if compute is not None and manifest.precision.startswith("int") else 0.0
    return max(own, DIFFERENCES.get((engine, manifest.precision), 0.0), narrow, level), narrow


def _inputs(row: Golden) -> dict[str, np.ndarray]:
    inputs = {"input_ids": np.array([row.input_ids], np.int64)}
    if row.token_type_ids is not None:
        inputs["token_type_ids"] = np.array([row.token_type_ids], np.int64)
    if row.word_map is not None:
        inputs["word_map"] = np.array([row.word_map], np.int64)
    return inputs
