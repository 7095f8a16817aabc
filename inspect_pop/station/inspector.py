"""The product's own inspector, warm: model loaded, libraries imported, one thread a process."""

from datetime import UTC, datetime
from pathlib import Path

from inspect_pop import limits as limit_files
from inspect_pop.batch.one_core import settle_on_one_core
from inspect_pop.batch.run import cores
from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.ingest import open_export
from inspect_pop.inspection import Inspection
from inspect_pop.pipeline import inspect_board
from inspect_pop.recipe import Recipe
from inspect_pop.station.bench import Inspector

__all__ = ["warm"]


def warm(model: Path | None, limits_file: Path | None) -> tuple[Inspector, str]:
    """An inspector by the model at `model` (None: the released one) and the limits of a file; and the model's digest.

    Raises `ModelFault`, `LimitsFault`.
    """
    settle_on_one_core()
    classifier = Classifier(load(model))
    ahead = cores() > 1  # the line waits for one board, not for the next ones
    limits = limit_files.load(limits_file) if limits_file else limit_files.Limits()

    def inspect(path: Path, root: Path) -> tuple[Inspection, Recipe]:
        export = open_export(path, root)
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return inspect_board(export, classifier, limits, started_at=started_at, ahead=ahead), export.recipe

    return inspect, classifier.digest
