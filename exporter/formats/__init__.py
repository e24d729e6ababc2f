"""All checkpoint formats. A new one is one file, and its name in the list below."""

from __future__ import annotations

from importlib import import_module

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.runtime.errors import CheckpointError, ExportError

# In the order in which they are tried: the most specific first.
NAMES = (
    "cascadebert",
    "sledgehammer",
    "sentee",
    "fastbert",
    "gpfee",
    "elbert",
    "elasticbert",
    "berxit",
    "deebert",
    "act",
    "pabee",
    "theseus",
    "power",
    "qdqbert",
    "modelopt",
    "torch_ao",
    "tinybert",
    "movement",
    "pruned",
    "dynabert",
    "plain",
)
FORMATS: tuple[Format, ...] = tuple(import_module(f"{__name__}.{name}").FORMAT for name in NAMES)

MODEL_TYPE = (
    ' If it is a plain model of an old transformers, add its "model_type", such as "bert", to '
    "config.json."
)


def choose_format(name: str, checkpoint: str, shapes: Shapes, config: Config) -> Format:
    """Find the format of a checkpoint from its tensors and config, or check the one named.

    Args:
        name: `auto`, or the name of a format.
        checkpoint: How to call the checkpoint in messages.
        shapes: Tensor shapes by name.
        config: Config.json.

    Raises:
        ExportError: There is no format of that name.
        CheckpointError: No format fits, or the named one does not.
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
