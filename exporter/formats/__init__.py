"""All checkpoint formats, one table, in the order in which they are tried."""

from __future__ import annotations

from effbert.exporter.formats import (
    act,
    berxit,
    cascadebert,
    deebert,
    dynabert,
    elasticbert,
    elbert,
    fastbert,
    gpfee,
    pabee,
    plain,
    power,
    pruned,
    sentee,
    sledgehammer,
    theseus,
    tinybert,
)
from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError, ExportError

FORMATS: tuple[Format, ...] = (
    cascadebert.FORMAT,
    sledgehammer.FORMAT,
    sentee.FORMAT,
    fastbert.FORMAT,
    gpfee.FORMAT,
    elbert.FORMAT,
    elasticbert.FORMAT,
    berxit.FORMAT,
    deebert.FORMAT,
    act.FORMAT,
    pabee.FORMAT,
    theseus.FORMAT,
    power.FORMAT,
    tinybert.FORMAT,
    pruned.FORMAT,
    dynabert.FORMAT,
    plain.FORMAT,
)

MODEL_TYPE = (
    ' If it is a plain model of an old transformers, add its "model_type", such as "bert", to '
    "config.json."
)

__all__ = ["FORMATS", "Config", "Format", "LoadOptions", "Shapes", "choose_format"]


def choose_format(name: str, checkpoint: str, shapes: Shapes, config: Config) -> Format:
    """Find the format of a checkpoint from its tensors and config, or check the one named.

    Args:
        name: `auto`, or the name of a format.
        checkpoint: how to call the checkpoint in messages.
        shapes: tensor shapes by name.
        config: config.json.

    Raises:
        ExportError: there is no format of that name.
        CheckpointError: no format fits, or the named one does not.
    """
    known = ", ".join(each.name for each in FORMATS)
    if name == "auto":
        for each in FORMATS:
            if each.detect(shapes, config):
                return each
        raise CheckpointError(
            f"{checkpoint} is none of the known formats ({known}): its tensors start with "
            f"{', '.join(sorted({key.split('.')[0] for key in shapes})[:6])} and its model_type is "
            f"{config.get('model_type')}." + ("" if config.get("model_type") else MODEL_TYPE)
        )
    for each in FORMATS:
        if each.name == name:
            if not each.detect(shapes, config):
                raise CheckpointError(
                    f"{checkpoint} is not a {name} checkpoint; try --format auto."
                )
            return each
    raise ExportError(f"There is no format {name}; choose auto or one of {known}.")
