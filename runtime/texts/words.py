"""Words of a text, and the tokens that they become."""

from __future__ import annotations

import re

from effbert.runtime.texts.tokenization import EncodedText


def first_pieces(item: EncodedText) -> dict[int, int]:
    """Find the token that starts each word between blanks; words without any are left out."""
    assert isinstance(item.text, str)
    spans = [match.span() for match in re.finditer(r"\S+", item.text)]
    pieces = [
        (index, *offsets)
        for index, offsets in enumerate(item.encoding.offsets)
        if not item.encoding.special_tokens_mask[index]
    ]
    found: dict[int, int] = {}
    word = 0
    for index, start, end in pieces:
        while word < len(spans) and spans[word][1] <= start:
            word += 1
        if word < len(spans) and spans[word][0] < end:
            found.setdefault(word, index)
    return found
