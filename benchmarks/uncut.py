"""What the benchmarks compare with: the model without exits, exported by torch alone."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertForSequenceClassification, logging

from effbert.exporter.quiet import quietly

OPSET = 20
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def load_uncut(checkpoint: Path) -> BertForSequenceClassification:
    """Loads backbone and main head of a checkpoint.

    Attention is the eager kind, as in a bundle: the other kind has more nodes in ONNX.
    """
    logging.set_verbosity_error()  # it would list every exit as an unexpected weight
    logging.disable_progress_bar()
    model = BertForSequenceClassification.from_pretrained(checkpoint, attn_implementation="eager")
    return model.eval()


def export_uncut(model: BertForSequenceClassification, path: Path, external_data: bool) -> None:
    """Exports and saves the model, batch and sequence dynamic."""
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with quietly():
        torch.onnx.export(
            model,
            kwargs={name: torch.ones(2, 9, dtype=torch.int64) for name in INPUTS},
            f=path,
            dynamo=True,
            opset_version=OPSET,
            external_data=external_data,
            dynamic_shapes=dict.fromkeys(INPUTS, dynamic),
            input_names=list(INPUTS),
            output_names=["logits"],
            verbose=False,
        )
