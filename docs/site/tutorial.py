"""Writes the tutorial and the list of exercises as pages, in English and in Uzbek."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.config.language import Language
from experiments.exercise.tasks import tasks

STAGES = sorted((Path(__file__).parents[2] / "conf" / "stage").glob("*.yaml"))
WORDS: dict[str, dict[str, str]] = {
    "en": {
        "changes": "What changes",
        "why": "Why",
        "gain": "Gain",
        "run": "Run it",
        "self": "Write it yourself",
        "settings": "In the configuration",
        "same": "The configuration names the same components with the same settings.",
        "setting": "setting",
        "before": "before",
        "now": "now",
        "parity": "Against the stage before",
        "prints": "The tutorial prints",
        "exercises": "All exercises",
    },
    "uz": {
        "changes": "Nima o'zgaradi",
        "why": "Nega",
        "gain": "Foyda",
        "run": "Ishga tushirish",
        "self": "O'zingiz yozing",
        "settings": "Konfiguratsiyada",
        "same": "Konfiguratsiyadagi komponentlar va sozlamalar o'zgarmaydi.",
        "setting": "sozlama",
        "before": "oldin",
        "now": "endi",
        "parity": "Oldingi bosqichga nisbatan",
        "prints": "Qo'llanma chop etadi",
        "exercises": "Barcha mashqlar",
    },
}


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and text of each page; the list of exercises is added to the page on them."""
    for language, folder in (("en", ""), ("uz", "uz/")):
        before: dict[str, str] = {}
        for path in STAGES:
            stage = yaml.safe_load(path.read_text(encoding="utf-8"))
            settings = _settings(stage)
            yield f"{folder}tutorial/{path.stem}.md", _page(path.stem, stage["tutorial"], before, settings, language)
            before = settings
        yield f"{folder}exercises.md", _exercises(language)


def _page(name: str, tutorial: Mapping[str, Any], before: Mapping[str, str], now: Mapping[str, str], to: str) -> str:
    say, number = WORDS[to], tutorial["number"]
    parts = [
        f"# {number}. {tutorial['title'][to]}",
        f"## {say['changes']}\n\n{tutorial['changes'][to]}",
        f"## {say['why']}\n\n{tutorial['why'][to]}\n\n**{say['gain']}:** {tutorial['gain'][to]}.",
    ]
    if before:
        parts.append(f"## {say['settings']}\n\n{_changed(before, now, say)}")
    if expected := tutorial.get("expects"):
        parts.append(f"## {say['parity']}\n\n**{Language(to)(expected['verdict'])}**: {expected['why'][to]}.")
    if prints := tutorial.get("prints"):
        values = "\n".join(f"- `{metric}`: {_numbers(value)}" for metric, value in prints.items())
        parts.append(f"## {say['prints']}\n\n{values}")
    run, start = f"python -m experiments stage={name}", f"python -m experiments.exercise start {number}"
    run, start = (run, start) if to == "en" else (f"{run} language={to}", f"{start} language={to}")
    parts.append(f"## {say['run']}\n\n```bash\n{run}\n```")
    parts.append(f"## {say['self']}\n\n```bash\n{start}\n```")
    return "\n\n".join(parts) + "\n"


def _numbers(value: float | list[float]) -> str:
    return ", ".join(f"{number:.4f}" for number in (value if isinstance(value, list) else [value]))


def _settings(stage: Mapping[str, Any]) -> dict[str, str]:
    """Return a stage's choices of groups and its other settings, by dotted key."""
    found = dict[str, str]()
    for entry in stage["defaults"]:
        if isinstance(entry, dict):
            found |= {key.removeprefix("override /"): str(value) for key, value in entry.items()}
    for key, value in stage.items():
        nested = value if isinstance(value, dict) and key != "tutorial" else {}
        found |= {f"{key}.{name}": yaml.safe_dump(each).split("\n")[0] for name, each in nested.items()}
    return found | {key: yaml.safe_dump(stage[key]).split("\n")[0] for key in ("epochs", "init_from")}


def _changed(before: Mapping[str, str], now: Mapping[str, str], say: Mapping[str, str]) -> str:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    rows = [f"| `{key}` | {_value(before.get(key))} | {_value(now.get(key))} |" for key in keys]
    heads = f"| {say['setting']} | {say['before']} | {say['now']} |\n|---|---|---|\n"
    return heads + "\n".join(rows) if rows else say["same"]


def _value(value: str | None) -> str:
    return "" if value is None else f"`{value}`"


def _exercises(language: str) -> str:
    holes = [f"{each.number}. `{each.stage}`: {each.todo[language]}" for each in tasks() if each.first]
    faults = [each for each in tasks() if each.old]
    found = [f"- {each.number}: `{each.stage}`" for each in faults]
    parts = [f"## {WORDS[language]['exercises']}", "\n".join(holes), faults[0].todo[language], "\n".join(found)]
    return "\n\n".join(parts) + "\n"
