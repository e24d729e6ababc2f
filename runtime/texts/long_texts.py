"""Look at no more of a very long text than decides which tokens the model reads.

Tokenizers are linear in a text, but slow, and with the two texts of a pair the tokenizers library
makes every combination of the pieces it cuts away. A text may hold megabytes of such pieces.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizers import Encoding, Tokenizer

from effbert.runtime.errors import InputError

# The first look: this many characters for each token that the model reads, but so many at least.
CHARACTERS_A_TOKEN, FEWEST = 8, 1 << 10
GROWTH = 4
# A text that has given fewer tokens than the model reads by here is refused, after half a second.
MOST = 1 << 19
# What stands this far from a token has no part in it: a normalizer looks at a few characters around
# a cut, an added token is shorter, and WordPiece gives up words of more than 100 characters.
MARGIN = 1 << 8


class Part(NamedTuple):
    """The start or end of a text, or all of it, and how many tokens it has (-1: not counted)."""

    text: str
    tokens: int = -1


class TextCutter:
    """Cuts texts where all tokens that a tokenizer keeps are decided."""

    def __init__(self, tokenizer: Tokenizer, tokens: int, left: bool, only_second: bool) -> None:
        """Take what is known of the tokenizer.

        Args:
            tokenizer: It truncates to so many tokens.
            tokens: How many.
            left: It keeps the last ones, not the first.
            only_second: It truncates the second text of a pair and refuses to truncate others.
        """
        self._tokenizer = tokenizer
        self._kept = tokens
        self._left = left
        self._only_second = only_second
        self._first_look = max(CHARACTERS_A_TOKEN * tokens, FEWEST)

    def cut(self, index: int, text: str) -> str:
        """Give the text itself, or a part that has the same tokens and more than are read.

        Args:
            index: Of the text, for messages.
            text: Any text.

        Raises:
            InputError: The text is longer than `MOST` characters, which hold too few tokens.
        """
        return text if len(text) <= self._first_look else self._decided(index, text).text

    def cut_pair(self, index: int, first: str, second: str) -> tuple[str, str]:
        """Cut both texts of a pair as `cut` does.

        Of two texts that are both too long, the one with more tokens keeps one more where their
        number is odd; parts therefore keep the order of their texts.
        """
        if min(len(first), len(second)) <= self._first_look:
            return self.cut(index, first), self.cut(index, second)
        parts = [self._decided(index, text) for text in (first, second)]
        counts = [self._count(self._part(text, 1 << 16)) for text in (first, second)]
        while (counts[0] > counts[1]) != (parts[0].tokens > parts[1].tokens):
            grown = 0 if counts[0] > counts[1] else 1
            whole = (first, second)[grown]
            if len(parts[grown].text) >= min(len(whole), 1 << 16):
                break
            part = self._part(whole, GROWTH * len(parts[grown].text))
            parts[grown] = Part(part, self._count(part))
        return parts[0].text, parts[1].text

    def _decided(self, index: int, text: str) -> Part:
        size = self._first_look
        while size < min(len(text), MOST + 1):
            part = self._part(text, size)
            found = self._encoded(part)
            if found.overflowing:
                end = len(part) - found.offsets[0][0] if self._left else found.offsets[-1][1]
                if end <= len(part) - MARGIN:
                    return Part(part, len(found.ids) + sum(len(more) for more in found.overflowing))
            size *= GROWTH
        if len(text) > MOST:
            raise InputError(
                f"Text {index}: of its {len(text):,} characters the "
                f"{'last' if self._left else 'first'} {MOST:,} hold fewer than the {self._kept} "
                "tokens that the model reads, and no more are looked at; shorten it."
            )
        return Part(text, self._count(text))

    def _part(self, text: str, size: int) -> str:
        return text[-size:] if self._left else text[:size]

    def _count(self, text: str) -> int:
        found = self._encoded(text)
        return len(found.ids) + sum(len(more) for more in found.overflowing)

    def _encoded(self, text: str) -> Encoding:
        first, second = ("", text) if self._only_second else (text, None)
        return self._tokenizer.encode(first, second, add_special_tokens=False)
