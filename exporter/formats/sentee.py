"""SENTEE and TOKEE: Accelerating BERT Inference for Sequence Labeling via Early-Exit.

Li, Shao, Sun, Yan, Qiu, Huang, ACL 2021. One linear classifier a layer, read at the first piece of
each word. The authors save whole pickled modules, which are code; what is read here is their
state_dict with a config.json beside it (see docs/systems/sentee.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from effbert.exporter.formats.format import Config, Format, Shapes
from effbert.exporter.models.load_options import LoadOptions
from effbert.runtime.errors import CheckpointError

if TYPE_CHECKING:
    from effbert.exporter.checkpoints.checkpoint import Checkpoint
    from effbert.exporter.models.exit_model import ExitModel

PAPER = "SENTEE/TOKEE (Li et al., ACL 2021), https://aclanthology.org/2021.acl-long.16"
PREFIX, HEAD = "ptm_encoder.", "classfiers.{}.w"  # the authors' spelling
COPIES = ("all", "first")
# Options of the authors' scripts that change answers or exits, at what effbert computes.
OPTIONS = {
    "ptm_pool_method": "first",
    "use_constrain": 0,
    "local_aware_1": 0,
    "local_aware_2": 0,
}


def detect(shapes: Shapes, config: Config) -> bool:
    """Recognise the authors' names of encoder and classifiers."""
    del config
    return f"{HEAD.format(0)}.weight" in shapes and any(k.startswith(PREFIX) for k in shapes)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ExitModel:
    """Build the encoder with its classifiers; with policy `token-entropy` as one that skips words.

    Raises:
        CheckpointError: Tensors or fields of config.json are missing, or parts are not supported.
        ExportError: The task or the exits asked for do not exist.
    """
    from effbert.exporter.encoders.honoured import require_values
    from effbert.exporter.encoders.labels import label_names
    from effbert.exporter.encoders.load import config_limits, load_backbone
    from effbert.exporter.heads.linear import load_linear
    from effbert.exporter.heads.tokens import TokenHeads
    from effbert.exporter.models.exit_model import INPUT_NAMES, Description, MultiExitModel
    from effbert.exporter.models.token_exit import TokenExitModel
    from effbert.exporter.policies.token import KNOBS

    options.require_task("token-classification", "its classifiers label words")
    _require_plain(checkpoint)
    require_values(checkpoint.folder / "config.json", checkpoint.config, OPTIONS)
    checkpoint.account.leave_out(r"ptm_encoder\.pooler\..+", "BERT's pooler, which no word reads")
    checkpoint.account.leave_out(r"crf\..+", "the CRF; the bundle gives the logits that exits use")
    tensors = checkpoint.load_tensors().renamed(
        lambda name: "bert." + name.removeprefix(PREFIX) if name.startswith(PREFIX) else name
    )
    backbone = load_backbone(
        checkpoint, tensors, "bert", {**checkpoint.config, "model_type": "bert"}
    )
    config = backbone.config
    depth, hidden = config.num_hidden_layers, config.hidden_size
    if f"{HEAD.format(depth)}.weight" in tensors:
        raise CheckpointError(
            f"{checkpoint.name} has more classifiers than the {depth} layers of config.json."
        )
    classes = tensors[f"{HEAD.format(0)}.weight"].shape[0]
    heads = [load_linear(tensors, HEAD.format(i), hidden, classes) for i in range(depth)]
    by_token = options.policy == "token-entropy" or (
        options.policy == "auto" and "keep_norm_same" in checkpoint.config
    )
    layers = options.choose_layers(tuple(range(1, depth + 1)))
    if by_token and len(layers) < depth:
        raise CheckpointError(
            "Words leave after every layer with token-entropy, so --exits cannot leave layers out; "
            "drop it, or choose --policy sentence-entropy."
        )
    description = Description(
        format="sentee",
        architecture="bert",
        paper=PAPER,
        task="token-classification",
        problem=None,
        labels=label_names(config, classes),
        layers=layers,
        limits=config_limits(config),
        policy="token-entropy" if by_token else "sentence-entropy",
        inputs=(*INPUT_NAMES, "word_map") if by_token else INPUT_NAMES,
        extras=("words_left",) if by_token else (),
        knobs=KNOBS if by_token else (),
        trials=({"threshold": 0.3}, {"threshold": 0.7}, {"threshold": 0.95}) if by_token else (),
        notes=_notes(checkpoint, classes),
    )
    if not by_token:
        return MultiExitModel(
            backbone, TokenHeads(layers, [heads[i - 1] for i in layers]), description
        )
    renormalise, whole_words = _token_options(checkpoint)
    return TokenExitModel(
        backbone, heads, description, renormalise=renormalise, whole_words=whole_words
    )


def _token_options(checkpoint: Checkpoint) -> tuple[bool, bool]:
    """Read what the state_dict does not say: `keep_norm_same` and `copy_wordpiece`."""
    keep = checkpoint.config.get("keep_norm_same")
    copy = checkpoint.config.get("copy_wordpiece", "all")
    if keep not in (0, 1):
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'} does not say whether words that left are "
            'normalised again: add "keep_norm_same": 0 or 1, as in the args of the training run '
            "(the further training of the authors' README uses 1)."
        )
    if copy not in COPIES:
        raise CheckpointError(
            f'{checkpoint.folder / "config.json"}: "copy_wordpiece" is {copy!r}, expected "all" or '
            '"first".'
        )
    return bool(keep), copy == "all"


def _require_plain(checkpoint: Checkpoint) -> None:
    extra = ("word_embedding.", "bigram_embedding.", "cnn_char.", "w_label_embedding.")
    found = sorted(key for key in checkpoint.shapes if key.startswith(extra))
    found += sorted(key for key in checkpoint.shapes if "transformer_cls" in key or "w_dim" in key)
    if found:
        raise CheckpointError(
            f"{checkpoint.name} feeds more than BERT's hidden states to its classifiers "
            f"({found[0]}), which is not supported; train without these features."
        )


def _notes(checkpoint: Checkpoint, classes: int) -> tuple[str, ...]:
    if "id2label" in checkpoint.config:
        return ()
    last = f"LABEL_{classes - 1}"
    return (f"config.json names no labels, so they are LABEL_0 to {last}; add id2label to it.",)


FORMAT = Format(
    name="sentee",
    paper=PAPER,
    detect=detect,
    load=load,
    policies=("sentence-entropy", "sentence-confidence", "token-entropy"),
)
