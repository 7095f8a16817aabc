"""A network of its own for the machines that a retraining was taught on, beside the model that it began with.

Every other machine is decided by that model as before, bit for bit: what four boards of one machine teach a network costs it
on others (measured: half of the way to such weights raised the loss on machines drawn at random from 0.021 to 0.031), and
thresholds that suit one send more of another's joints to people.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from inspect_pop.classify.model import Card, Model, Own, file_digest
from inspect_pop.learn.build import About
from inspect_pop.learn.folder import seal

__all__ = ["add_own", "own_folder"]

# Of the model before: written anew, or about another training.
_NOT_KEPT = ("README.md", "report.json")


def own_folder(machines: Sequence[str]) -> str:
    """The name of the folder for the network of these machines, the same ones every time."""
    names = "\n".join(sorted(set(machines)))
    return f"own-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def add_own(before: Model, out: Path, machines: Sequence[str], about: About) -> Card:
    """Make `out` the model `before` with the network in `out / own_folder(machines)` for these machines; not judged yet.

    Networks of other machines that `before` has stay.
    """
    name, card = own_folder(machines), before.card
    for file in card.files:
        if file not in _NOT_KEPT:
            shutil.copyfile(before.folder / file, out / file)
    kept = {machine: own for machine, own in card.machines.items() if machine not in machines}
    for folder in {own.folder for own in kept.values()}:
        shutil.copytree(before.folder / folder, out / folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    own = Own(folder=name, card=file_digest((out / name / "card.json").read_bytes()))
    new = {
        "name": about.name,
        "version": about.version,
        "created_at": about.created_at,
        "data": {**card.data, **about.data},
        "recipe": dict(about.recipe),
        "machines": kept | dict.fromkeys(sorted(set(machines)), own),
        "metrics": {},
        "measured_on": "",
    }
    return seal(out, card.model_copy(update=new))
