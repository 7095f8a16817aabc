"""Writing a model folder: the network, what it was calibrated on, the card last, so that a half-written one cannot be loaded."""

import json
import os
from pathlib import Path
from typing import Any

from inspect_pop.classify.model import Card, file_digest
from inspect_pop.errors import UsageFault
from inspect_pop.joints import CLASSES
from inspect_pop.learn.evaluate import summary
from inspect_pop.learn.tables import table

__all__ = ["seal"]


def seal(folder: Path, card: Card) -> Card:
    """Write `README.md`, then `card.json` with the digest of every file of the folder; the card as written.

    Raises `UsageFault` where `model.onnx` is not there.
    """
    if not (folder / "model.onnx").is_file():
        raise UsageFault(str(folder), expected="model.onnx before its card", found="none")
    (folder / "README.md").write_text(_for_people(card), encoding="utf-8")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != "card.json")
    sealed = card.model_copy(update={"files": {p.name: file_digest(p.read_bytes()) for p in files}})
    part = folder / f".card.{os.getpid()}.part"
    part.write_text(json.dumps(sealed.model_dump(mode="json", by_alias=True), indent=1), encoding="utf-8")
    part.replace(folder / "card.json")
    return sealed


def _for_people(card: Card) -> str:
    """The card as a page: what it is for, what it was made of, how good it is, and how sure that is."""
    data, point = card.data, card.operating_point
    judged = "escape" in card.metrics
    lines = [
        f"# {card.name} {card.version}",
        "",
        f"Classifies Package-on-Package solder joints as {', '.join(CLASSES)}.",
        f"Made {card.created_at} by inspect_pop {card.software}.",
        "",
        "## Made of",
        "",
        *(f"- {key}: {_short(value)}" for key, value in data.items()),
        f"- recipe: {card.recipe.get('name', 'not named')}, inputs {card.contract}",
        "",
        "## How good",
        "",
        f"Judged on {card.measured_on or 'boards held apart from training'}:" if judged else "Not judged.",
        "",
        *(["```", *summary({"model": {"name": card.name, "version": card.version}} | card.metrics), "```"] if judged else []),
        *_by_machine(card),
        *(line for heading, text in card.metrics.get("tables", {}).items() for line in ("", f"### {heading}", "", text)),
        "",
        "## Working point",
        "",
        f"Passes below {point.pass_below:.2f}, fails from {point.fail_above:.2f} (log-odds of a defect). {point.source}",
        *(
            f"On boards of {machine}, the network in `{own.folder}` decides with thresholds of its own."
            for machine, own in card.machines.items()
        ),
        "",
    ]
    return "\n".join(lines)


def _by_machine(card: Card) -> list[str]:
    """The table of figures: of the kinds of boards that were judged, else of the machines among them."""
    kinds = card.metrics.get("kinds") or card.metrics.get("by", {}).get("machine", {})
    return ["", "With exact 95 % intervals (Clopper-Pearson):", "", *table(kinds)] if kinds else []


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} ({', '.join(map(str, value[:5]))}{', …' if len(value) > 5 else ''})"
    return ", ".join(f"{v} {k}" for k, v in value.items()) if isinstance(value, dict) else str(value)
