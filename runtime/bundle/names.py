"""Names that every host of a bundle knows: its files, its inputs."""

from __future__ import annotations

MANIFEST_NAME = "effbert.json"
WEIGHTS_NAME = "weights.bin"
IDS, MASK, TYPES, WORDS = "input_ids", "attention_mask", "token_type_ids", "word_map"
NO_WORD = -1  # in a word map: special tokens and padding
