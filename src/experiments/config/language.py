"""The language of what a user reads: the English text is the key of a catalogue, and its placeholders have names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import yaml

NAMES = ("en", "uz")


class Phrase(str):
    """An English text that keeps its template and values, so that a language can say it later."""

    template: str
    filled: dict[str, object]

    def __new__(cls, template: str, /, **values: object) -> Phrase:
        """Fill the template in."""
        phrase = super().__new__(cls, template.format(**values) if values else template)
        phrase.template, phrase.filled = template, values
        return phrase


@dataclass(frozen=True)
class Language:
    """A language, called with an English text: `say("{count} seeds", count=3)`."""

    name: str = "en"

    def __call__(self, text: str, /, **values: object) -> str:
        """Return the text in this language with its values; a text without a translation is a user's own name."""
        if isinstance(text, Phrase):
            values, text = text.filled, text.template
        text = _catalogue(self.name).get(text, text)
        said = {name: self(value) if isinstance(value, Phrase) else value for name, value in values.items()}
        return text.format(**said) if said else text

    @classmethod
    def of(cls, *folders: Path) -> Language:
        """Return the language that the first of these runs was configured with; English where none was."""
        found = next((path for folder in folders if (path := folder / "config.yaml").is_file()), None)
        # Not read as YAML, which a configuration with masked secrets (`token: ***`) is not.
        line = re.search(r"^language: (\w+)$", found.read_text(encoding="utf-8"), re.MULTILINE) if found else None
        return cls(line[1]) if line and line[1] in NAMES else ENGLISH


ENGLISH = Language()


@cache
def _catalogue(name: str) -> dict[str, str]:
    """Return the translations of the English texts."""
    file = resources.files(__package__) / f"{name}.yaml"
    return {} if name == "en" else dict(yaml.safe_load(file.read_text(encoding="utf-8")))
