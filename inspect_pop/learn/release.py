"""Making the model that is released: simulated boards of many machines, then the labelled boards that there are.

Two fits, each resumable: a long one on simulated joints alone, and a short one, at a lower rate, in which labelled boards
count several times. The calibration boards take part in neither.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from inspect_pop.classify.model import Card
from inspect_pop.learn.build import About, build_model
from inspect_pop.learn.calibrate import Targets
from inspect_pop.learn.collect import collect
from inspect_pop.learn.fit import FitRecipe, Fitted, fit
from inspect_pop.learn.jitter import Jitter
from inspect_pop.learn.samples import Samples, SampleWriter, load
from inspect_pop.learn.simulated import SetRecipe, make_set

__all__ = ["ReleaseRecipe", "Sets", "gather_sets", "release"]

Progress = Callable[[str], None]
_CHUNK = 4096


class ReleaseRecipe(BaseModel):
    """Everything that decides a released model, besides data and code; `training/recipes/release.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    teach: str = Field(description="recipe of the simulated set to learn from, beside this file's datasets folder")
    held: str = Field(description="recipe of the simulated set to calibrate on")
    repeats: int = Field(4, ge=1, description="how often each labelled joint counts in the second fit")
    fit: FitRecipe
    second: FitRecipe
    jitter: Jitter = Jitter()
    targets: Targets = Targets()


@dataclass(frozen=True)
class Sets:
    """The joints of a release: simulated ones to learn from, simulated ones to calibrate on, labelled ones (or None)."""

    teach: Samples
    held: Samples
    labelled: Samples | None


def gather_sets(
    teach: SetRecipe,
    held: SetRecipe,
    labelled: Sequence[Path],
    work: Path,
    *,
    processes: int = 1,
    progress: Progress = lambda _: None,
) -> Sets:
    """Make both simulated sets and read the labelled boards; what an earlier start has finished is taken from `work`."""
    simulated = [_made(recipe, work, processes, progress) for recipe in (teach, held)]
    known = collect(labelled, work / "labelled", processes=processes, progress=progress).samples if labelled else None
    return Sets(simulated[0], simulated[1], known)


def release(
    sets: Sets,
    recipe: ReleaseRecipe,
    out: Path,
    work: Path,
    *,
    now: str,
    device: str = "cpu",
    progress: Progress = lambda _: None,
) -> Card:
    """Fit twice, calibrate, export; the model folder `out`, not judged yet."""
    varieties = tuple(sorted(set(sets.teach.varieties) | set(sets.held.varieties)))
    teach, held = sets.teach.with_varieties(varieties), sets.held.with_varieties(varieties)
    first = fit(
        teach, recipe.fit, work=work / "first", varieties=len(varieties), how=recipe.jitter, device=device, progress=progress
    )
    fitted = (
        _second(first, teach, sets.labelled, varieties, recipe, work, device, progress) if sets.labelled is not None else first
    )
    about = About(recipe.name, _version(now), now, _data(sets), recipe.model_dump(mode="json") | {"digest": _digest(recipe)})
    return build_model(fitted.network, varieties, teach, held, out, about, targets=recipe.targets)


def _second(
    first: Fitted,
    teach: Samples,
    labelled: Samples,
    varieties: tuple[str, ...],
    recipe: ReleaseRecipe,
    work: Path,
    device: str,
    progress: Progress,
) -> Fitted:
    """Go on with the labelled joints mixed in, each `repeats` times."""
    folder = work / "mixed"
    if not (folder / "samples.json").exists():
        with SampleWriter(folder) as writer:
            for start in range(0, len(teach), _CHUNK):
                writer.append(teach.take(np.arange(start, min(start + _CHUNK, len(teach)))))
            for _ in range(recipe.repeats):
                writer.append(labelled.with_varieties(varieties))
    return fit(
        load(folder),
        recipe.second,
        work=work / "second",
        start=first.network,
        how=recipe.jitter,
        device=device,
        progress=progress,
    )


def _made(recipe: SetRecipe, work: Path, processes: int, progress: Progress) -> Samples:
    folder = work / f"{recipe.name}-{recipe.digest[:12]}"
    if (folder / "samples.json").exists():
        return load(folder)
    return make_set(recipe, folder, processes=processes, progress=lambda said: progress(f"{recipe.name}: {said}"))


def _data(sets: Sets) -> dict[str, object]:
    known = sets.labelled
    return {
        "joints learnt from": len(sets.teach) + (len(known) if known is not None else 0),
        "simulated boards learnt from": len(sets.teach.boards),
        "labelled boards learnt from": list(known.boards) if known is not None else [],
        "training boards": list(known.boards) if known is not None else [],
        "calibration boards": list(sets.held.boards),
        "golden boards": [],
    }


def _version(now: str) -> str:
    return "".join(c for c in now[:19] if c.isdigit())


def _digest(recipe: ReleaseRecipe) -> str:
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()
