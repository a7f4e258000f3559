"""Text as numbers of tokens, learnt from the training text and kept in the run for text that comes later."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from experiments.errors import DataError

SPECIAL = ("<padding>", "<unknown>")  # the tokens 0 and 1; padding fills a text up to its length
WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of text, by their numbers: characters, words in small letters, or byte pairs.

    `merges` is the description of byte pairs by the library that merges them, tokenizers.
    """

    kind: str
    tokens: Sequence[str]
    merges: str = ""

    @classmethod
    def learn(cls, texts: Sequence[str], kind: str, size: int) -> Vocabulary:
        """Return at most `size` tokens, the most frequent ones; of equally frequent ones, the first by alphabet."""
        if kind == "pairs":
            made = _library().ByteLevelBPETokenizer()
            made.train_from_iterator(texts, size, special_tokens=list(SPECIAL), show_progress=False)
            return cls(kind, [made.id_to_token(number) for number in range(made.get_vocab_size())], made.to_str())
        counts = Counter(token for text in texts for token in _pieces(text, kind))
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        return cls(kind, [*SPECIAL, *ranked[: size - len(SPECIAL)]])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _pairs(self) -> Any:
        return _library().Tokenizer.from_str(self.merges)

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text's tokens."""
        if self.kind == "pairs":
            return list(self._pairs.encode(text).ids)
        return [self._numbers.get(token, 1) for token in _pieces(text, self.kind)]

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of tokens; words have a space between them."""
        if self.kind == "pairs":
            return str(self._pairs.decode(list(numbers)))
        return (" " if self.kind == "words" else "").join(self.tokens[number] for number in numbers)


def _pieces(text: str, kind: str) -> Sequence[str]:
    return WORD.findall(text.lower()) if kind == "words" else text


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise DataError("dataset.tokens=pairs needs a library: pip install tokenizers") from None
    return tokenizers
