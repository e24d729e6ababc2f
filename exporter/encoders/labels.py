"""What config.json says about classes: their names by id, and what the logits mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

from effbert.runtime.bundle.manifest import Problem
from effbert.runtime.errors import CheckpointError

PROBLEMS: dict[str, Problem] = {
    "single_label_classification": "single-label",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}


def with_id2label(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give a config that names its classes in `label2id` only an `id2label` too."""
    ids = fields.get("label2id")
    if "id2label" in fields or not isinstance(ids, Mapping):
        return dict(fields)
    names = {str(number): name for name, number in ids.items()}
    return {**fields, "id2label": names} if len(names) == len(ids) else dict(fields)


def label_names(config: transformers.PretrainedConfig, classes: int) -> tuple[str, ...]:
    """Name the classes by their ids in id2label; the others are LABEL_0, LABEL_1, ..."""
    names = {int(number): str(name) for number, name in (config.id2label or {}).items()}
    return tuple(names.get(index, f"LABEL_{index}") for index in range(classes))


def label_notes(fields: Mapping[str, Any], classes: int) -> list[str]:
    """Say where the names in a config.json do not fit the classes of its model."""
    given, ids = fields.get("id2label"), fields.get("label2id")
    if not isinstance(given, Mapping) or not isinstance(ids or {}, Mapping) or not classes:
        return []
    names = {str(number): str(name) for number, name in given.items()}
    notes = []
    beyond = [number for number in names if number not in map(str, range(classes))]
    if beyond:
        notes.append(
            f"id2label of config.json names {len(beyond)} ids that a classifier of {classes} "
            f"classes does not have ({', '.join(beyond[:5])}); names stay with their ids, from 0 "
            f"to {classes - 1}."
        )
    repeated = sorted({name for name in names.values() if [*names.values()].count(name) > 1})
    if repeated:
        notes.append(
            f"id2label of config.json gives several ids one name ({', '.join(repeated[:5])}); "
            "label_id and probabilities of an answer tell them apart."
        )
    other = {str(number): str(name) for name, number in (ids or {}).items()}
    usual = {number: f"LABEL_{number}" for number in other}  # what transformers writes unasked
    if other not in ({}, names, usual) and not repeated:
        notes.append("label2id and id2label of config.json contradict each other; id2label counts.")
    return notes


def config_problem(config: transformers.PretrainedConfig, classes: int) -> Problem:
    """Tell what logits mean: what config.json says, else one class is a regression.

    Raises:
        CheckpointError: The file config.json names a problem that there is not.
    """
    kind = config.problem_type
    if kind is None:
        return "regression" if classes == 1 else "single-label"
    if kind not in PROBLEMS:
        raise CheckpointError(
            f"config.json: problem_type is {kind!r}, expected {', '.join(PROBLEMS)}."
        )
    return PROBLEMS[kind]
