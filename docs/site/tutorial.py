"""Writes the tutorial and the list of exercises as pages, in English and in Uzbek."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from docs.site import curves, scripts

from experiments.config.language import Language
from experiments.exercise.tasks import tasks

STAGES = [Path(__file__).parents[2] / "conf" / "stage" / f"{stage}.yaml" for stage in scripts.STAGES]
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
        "exercise": "Exercise {number}",
        "script": "The script",
        "code": "What changes in the code",
        "plain": "The stage exported as plain PyTorch: "
        "`python -m experiments.export_script stage={stage} {overrides}`.",
        "against": "Both stages exported as plain PyTorch, stage {before} against stage {number}. "
        "Lines that both have are left out.",
        "curve": "Losses",
        "alt": "Training and validation loss by epoch. In epoch {epoch}: {values}",
        "caption": "By epoch, of {epochs} epochs on the whole MNIST with seed 0; the tutorial trains two. "
        "Drawn by `python -m docs.site.curves --train mnist.pkl.gz`.",
        "notebook": "As a notebook",
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
        "exercise": "{number}-mashq",
        "script": "Skript",
        "code": "Kodda nima o'zgaradi",
        "plain": "Bosqichning oddiy PyTorch'dagi skripti: "
        "`python -m experiments.export_script stage={stage} {overrides}`.",
        "against": "Ikkala bosqichning oddiy PyTorch'dagi skriptlari farqi: {before}-bosqichdan {number}-bosqichga. "
        "O'zgarmagan qatorlar tushirib qoldirilgan.",
        "curve": "Yo'qotishlar",
        "alt": "Epoxalar bo'yicha o'qitish va validatsiya yo'qotishi. {epoch}-epoxada: {values}",
        "caption": "Epoxalar bo'yicha, to'liq MNIST'da seed 0 bilan {epochs} epoxa; qo'llanmada ikki epoxa o'qitiladi. "
        "Chizadigan buyruq: `python -m docs.site.curves --train mnist.pkl.gz`.",
        "notebook": "Notebook ko'rinishida (inglizcha)",
    },
}


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and text of each page; the lists of exercises and notebooks are added to the pages on them."""
    for language, folder in (("en", ""), ("uz", "uz/")):
        before: dict[str, str] = {}
        for path in STAGES:
            stage = yaml.safe_load(path.read_text(encoding="utf-8"))
            settings = _settings(stage)
            yield f"{folder}tutorial/{path.stem}.md", _page(path.stem, stage["tutorial"], before, settings, language)
            before = settings
        yield f"{folder}exercises.md", _exercises(language)
    yield "notebooks.md", _notebooks()


def _page(name: str, tutorial: Mapping[str, Any], before: Mapping[str, str], now: Mapping[str, str], to: str) -> str:
    say, number = WORDS[to], tutorial["number"]
    parts = [
        f"# {number}. {tutorial['title'][to]}",
        f"## {say['changes']}\n\n{tutorial['changes'][to]}",
        f"## {say['why']}\n\n{tutorial['why'][to]}\n\n**{say['gain']}:** {tutorial['gain'][to]}.",
    ]
    if before:
        parts.append(f"## {say['settings']}\n\n{_changed(before, now, say)}")
    parts += [_script(name, number, say), _curve(name, to)]
    if expected := tutorial.get("expects"):
        parts.append(f"## {say['parity']}\n\n**{Language(to)(expected['verdict'])}**: {expected['why'][to]}.")
    if prints := tutorial.get("prints"):
        values = "\n".join(f"- `{metric}`: {_numbers(value)}" for metric, value in prints.items())
        parts.append(f"## {say['prints']}\n\n{values}")
    run, start = f"python -m experiments stage={name}", f"python -m experiments.exercise start {number}"
    run, start = (run, start) if to == "en" else (f"{run} language={to}", f"{start} language={to}")
    parts.append(f"## {say['run']}\n\n```bash\n{run}\n```")
    exercise = f"[{say['exercise'].format(number=number)}]({'../' * (2 - (to == 'uz'))}exercises.md)"
    parts.append(f"## {say['self']}\n\n{exercise}: {tasks()[number - 1].todo[to]}\n\n```bash\n{start}\n```")
    notebook = f"{_up(to)}../notebooks/{name}.ipynb"
    parts.append(f"## {say['notebook']}\n\n[{name}.ipynb]({notebook})")
    return "\n\n".join(parts) + "\n"


def _script(stage: str, number: int, say: Mapping[str, str]) -> str:
    """Return the section on the stage's code: what changes in it, of the first stage the whole."""
    if (before := scripts.stage_before(stage)) is None:
        text = say["plain"].format(stage=stage, overrides=" ".join(scripts.OVERRIDES))
        return f"## {say['script']}\n\n{text}\n\n```python\n{scripts.script(stage)}```"
    text = say["against"].format(before=number - 1, number=number)
    return f"## {say['code']}\n\n{text}\n\n```diff\n{scripts.diff(before, stage)}\n```"


def _curve(stage: str, to: str) -> str:
    say, losses = WORDS[to], curves.losses(stage)
    values = ", ".join(f"{name} {each[-1]:.4f}" for name, each in losses.items())
    alt, caption = say["alt"].format(epoch=curves.EPOCHS - 1, values=values), say["caption"]
    image = f"![{alt}]({_up(to)}tutorial/curves/{stage}.svg)"
    return f"## {say['curve']}\n\n{image}\n\n{caption.format(epochs=curves.EPOCHS)}"


def _up(to: str) -> str:
    """Return the way from a stage's page to docs/site."""
    return "../" if to == "en" else "../../"


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


def _notebooks() -> str:
    titles = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["tutorial"]["title"]["en"] for path in STAGES}
    return "".join(f"- [{stage}.ipynb](../notebooks/{stage}.ipynb): {title}\n" for stage, title in titles.items())


def _exercises(language: str) -> str:
    holes = [f"{each.number}. `{each.stage}`: {each.todo[language]}" for each in tasks() if each.first]
    faults = [each for each in tasks() if each.old]
    found = [f"- {each.number}: `{each.stage}`" for each in faults]
    parts = [f"## {WORDS[language]['exercises']}", "\n".join(holes), faults[0].todo[language], "\n".join(found)]
    return "\n\n".join(parts) + "\n"
