"""How a model is trained, read from `training/recipes/*.toml`: everything that decides the result, besides data and code."""

import hashlib
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.errors import LimitsFault
from inspect_pop.learn.calibrate import Targets
from inspect_pop.learn.fit import FitRecipe
from inspect_pop.learn.jitter import Jitter
from inspect_pop.learn.simulated import SetRecipe

__all__ = ["TrainRecipe", "load_recipe"]


class TrainRecipe(BaseModel):
    """One training, from labelled boards to a model folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w.-]+$", description="of the recipe, in the model's record")
    from_released: bool = Field(default=True, description="begin with the weights of the model that is in use")
    copies: int = Field(default=0, ge=0, le=20, description="changed copies of each user's joint, made beforehand")
    shares: tuple[float, ...] = Field(
        default=(1.0,), description="how far to go from the old weights to the new ones: the best on the calibration boards wins"
    )
    golden_share: float = Field(default=0.2, gt=0, lt=1)
    calibrate_share: float = Field(default=0.2, gt=0, lt=1)
    folds: int = Field(default=3, ge=2, description="with fewer than `few_boards`, boards calibrate in turn, in so many parts")
    few_boards: int = Field(default=8, ge=0, description="with fewer boards than this none is spared to calibrate on")
    rehearsal: SetRecipe | None = Field(default=None, description="boards of other machines to simulate and mix in")
    replay_joints: int = Field(default=0, ge=0, description="joints of other machines mixed in")
    replay_weight: float = Field(default=1.0, gt=0, description="how much one of them counts beside a user's joint")
    fit: FitRecipe = FitRecipe.model_validate({})
    jitter: Jitter = Jitter()
    targets: Targets = Targets()

    @property
    def digest(self) -> str:
        """sha256 over all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_recipe(path: Path) -> TrainRecipe:
    """A recipe from a TOML file. Raises `LimitsFault` for a file that cannot be read, an unknown key or an impossible value."""
    try:
        return TrainRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="a training recipe", found=str(error)) from error
