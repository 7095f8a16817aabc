"""Making the model that is released: simulated boards of many machines, then the labelled boards that there are.

Two fits, each resumable: a long one on simulated joints alone, and a short one, at a lower rate, in which labelled boards
count several times. The calibration boards take part in neither.
"""

import hashlib
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.model import Card
from inspect_pop.errors import LimitsFault
from inspect_pop.learn.build import About, build_model
from inspect_pop.learn.calibrate import Targets
from inspect_pop.learn.collect import collect
from inspect_pop.learn.fit import FitRecipe, fit
from inspect_pop.learn.jitter import Jitter
from inspect_pop.learn.mixture import mixture
from inspect_pop.learn.narrow import narrowed
from inspect_pop.learn.ranks import ALONE, Ranks
from inspect_pop.learn.samples import Samples, concat, load
from inspect_pop.learn.simulated import SetRecipe, load_set_recipe, make_set
from inspect_pop.learn.weights import load_network

__all__ = ["ReleaseRecipe", "Sets", "gather_sets", "load_release_recipe", "release"]

Progress = Callable[[str], None]
# By so many joints of training the embedding's horizon is drawn; all of them would not fit in memory.
_HORIZON = 20_000


class ReleaseRecipe(BaseModel):
    """Everything that decides a released model, besides data and code; `training/recipes/release.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    teach: tuple[str, ...] = Field(
        min_length=1,
        description="recipes of the simulated sets to learn from, from the repository's top; one named twice counts twice",
    )
    held: tuple[str, ...] = Field(min_length=1, description="recipes of the simulated sets to calibrate on")
    start: str | None = Field(
        None,
        description="weights to begin with (network.safetensors), from the repository's top; none: random. A network that is"
        " wider than `fit` asks for is narrowed",
    )
    repeats: int = Field(4, ge=1, description="how often each labelled joint counts in the second fit")
    fit: FitRecipe
    second: FitRecipe
    jitter: Jitter = Jitter()
    targets: Targets = Targets()

    @property
    def digest(self) -> str:
        """sha256 over all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@dataclass(frozen=True)
class Sets:
    """The joints of a release: simulated ones to learn from, simulated ones to calibrate on, labelled ones (or None)."""

    teach: tuple[Samples, ...]
    held: Samples
    labelled: Samples | None

    @property
    def varieties(self) -> tuple[str, ...]:
        """All fine labels of the simulated sets."""
        return tuple(sorted({name for samples in (*self.teach, self.held) for name in samples.varieties}))


def load_release_recipe(path: Path) -> ReleaseRecipe:
    """Read a recipe. Raises `LimitsFault` for one that cannot be read or has an unknown key."""
    try:
        return ReleaseRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="a recipe of a release", found=str(error)) from error


def gather_sets(
    recipe: ReleaseRecipe,
    top: Path,
    labelled: Sequence[Path],
    work: Path,
    *,
    processes: int = 1,
    ranks: Ranks = ALONE,
    progress: Progress = lambda _: None,
) -> Sets:
    """Make the simulated sets and read the labelled boards; what an earlier start has finished is taken from `work`.

    Of several processes (`ranks`) the leading one makes them, and the others read what it made. The recipes of sets lie below
    `top`. Raises `LimitsFault` for one that cannot be read.
    """
    known = None
    with ranks.leader_first():
        teach, held = (
            tuple(_made(load_set_recipe(top / name), work, processes, progress) for name in names)
            for names in (recipe.teach, recipe.held)
        )
        if labelled:
            folder = work / "labelled"
            known = collect(labelled, folder, processes=processes, progress=progress).samples if ranks.leads else load(folder)
    return Sets(teach, concat(held), known)


def release(
    sets: Sets,
    recipe: ReleaseRecipe,
    out: Path,
    work: Path,
    *,
    now: str,
    start: Path | None = None,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    progress: Progress = lambda _: None,
) -> Card | None:
    """Fit, fit again with the labelled joints where there are any, calibrate, export; the model folder `out`, not judged yet.

    None in a process that only helped to fit (`ranks`); all of them must be given the same sets.

    `start` holds the weights to begin with (`network.safetensors`); None: random ones. Raises `ModelFault` where they are of a
    network that cannot be made what `recipe` asks for.
    """
    old, varieties = (None, sets.varieties) if start is None else load_network(start)
    if old is not None and old.shape.body == "residual":
        old = narrowed(old, recipe.fit.widths, recipe.fit.first)
    fitted = fit(
        mixture(sets.teach, varieties),
        recipe.fit,
        work=work / "first",
        start=old,
        varieties=len(varieties),
        how=recipe.jitter,
        device=device,
        ranks=ranks,
        progress=progress,
    )
    if sets.labelled is not None:
        taught = mixture([*sets.teach, sets.labelled], varieties, [1] * len(sets.teach) + [recipe.repeats])
        fitted = fit(
            taught,
            recipe.second,
            work=work / "second",
            start=fitted.network,
            how=recipe.jitter,
            device=device,
            ranks=ranks,
            progress=progress,
        )
    if not ranks.leads:
        return None
    about = About(out.name, _version(now), now, _data(sets), recipe.model_dump(mode="json") | {"digest": recipe.digest})
    held = sets.held.with_varieties(varieties)
    return build_model(fitted.network, varieties, _some(sets.teach), held, out, about, targets=recipe.targets)


def _some(sets: Sequence[Samples]) -> Samples:
    """Every so many-th joint of all sets."""
    step = max(1, sum(len(samples) for samples in sets) // _HORIZON)
    return concat([samples.take(np.arange(0, len(samples), step)) for samples in sets])


def _made(recipe: SetRecipe, work: Path, processes: int, progress: Progress) -> Samples:
    folder = work / f"{recipe.name}-{recipe.digest[:12]}"
    if (folder / "samples.json").exists():
        return load(folder)
    return make_set(recipe, folder, processes=processes, progress=lambda said: progress(f"{recipe.name}: {said}"))


def _data(sets: Sets) -> dict[str, object]:
    known = sets.labelled
    teach = {samples.boards: samples for samples in sets.teach}.values()  # a set that counts twice holds its boards once
    boards = list(known.boards) if known is not None else []
    return {
        "joints learnt from": sum(len(samples) for samples in teach) + (len(known) if known is not None else 0),
        "simulated boards learnt from": sum(len(samples.boards) for samples in teach),
        "labelled boards learnt from": boards,
        "training boards": boards,
        "calibration boards": list(sets.held.boards),
        "golden boards": [],
    }


def _version(now: str) -> str:
    return "".join(c for c in now[:19] if c.isdigit())
