"""What a training did and what came of it, for people and for `report.json` in the model's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_pop.learn.curve import Curve
from inspect_pop.learn.evaluate import summary
from inspect_pop.learn.gates import Gate
from inspect_pop.learn.labels import LabelReport
from inspect_pop.learn.split import Split

__all__ = ["REPORT", "TrainReport"]

REPORT = "report.json"


@dataclass(frozen=True)
class TrainReport:
    """The whole of a training.

    `new` and `old` are evaluations on the same golden boards; `new_elsewhere` and `old_elsewhere` on boards of the replay
    set that were held out; None where there is no old model or no such set. `share` is how far the weights went from
    the old ones (1: all the way), `losses` what each share lost on boards held out. `promoted_as` is the model's name in
    the folder of models, empty where it was not taken into use.
    """

    model: Path
    labels: LabelReport
    split: Split
    share: float
    losses: dict[str, float]
    history: list[dict[str, float]]
    new: dict[str, Any]
    old: dict[str, Any] | None
    new_elsewhere: dict[str, Any] | None
    old_elsewhere: dict[str, Any] | None
    gates: tuple[Gate, ...]
    curve: Curve | None
    seconds: float
    promoted_as: str = ""

    @property
    def passed(self) -> bool:
        """Whether every gate lets the new model pass."""
        return all(gate.passed for gate in self.gates)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        plain = {k: getattr(self, k) for k in ("share", "losses", "history", "new", "old", "seconds", "promoted_as")}
        return {
            "schema": "inspect-pop-training/1",
            "labels": self.labels.to_dict(),
            "split": self.split.to_dict(),
            **plain,
            "elsewhere": {"new": self.new_elsewhere, "old": self.old_elsewhere},
            "gates": [gate.__dict__ for gate in self.gates],
            "passed": self.passed,
            "curve": self.curve.to_dict() if self.curve else None,
        }

    def lines(self) -> list[str]:
        """For people: the labels, what was learnt from what, old and new side by side, and what follows."""
        split = self.split
        said = ["Labels", *_indented(self.labels.lines()), "Boards"]
        calibrated = f"{len(split.calibrate)} calibrated" if split.calibrate else "the same calibrated in turn"
        said.append(f"  {len(split.train)} taught, {calibrated}, {len(split.golden)} judge (kept apart for ever)")
        if self.losses:
            said.append(f"  weights went {self.share:.0%} of the way from the old model to what the boards teach")
        for title, figures in (("Before, on the golden boards", self.old), ("Now, on the same boards", self.new)):
            said += [title, *summary(figures)] if figures else [f"{title}: no model"]
        for title, figures in (("Before, elsewhere", self.old_elsewhere), ("Now, elsewhere", self.new_elsewhere)):
            said += [title, *summary(figures)] if figures else []
        said += ["Gates", *(f"  {'pass' if g.passed else 'STOP'}  {g.name}: {g.said}" for g in self.gates)]
        if self.curve:
            said += ["What more boards would buy", f"  {self.curve.said}"]
        said.append(self._end())
        return said

    def _end(self) -> str:
        took = f"{self.seconds:.0f} s"
        if self.promoted_as:
            return f"In use from now on: {self.promoted_as} ({took})"
        if self.passed:
            return f"The new model may be used: {self.model} ({took})"
        return f"The new model should not be used: {self.model}, for the reasons at STOP ({took})"


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
