"""How a station starts on a store that had one before: with a model that was taken by request, and frozen limits."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from inspect_pop.classify.model import find_current_model, resolve
from inspect_pop.core.errors import ModelFault, UsageFault
from inspect_pop.station.contract import DEFAULT_FACTORY, Rules
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.setup import freeze_limits, read_setup

__all__ = ["StartModel", "check_same_rules", "settle_settings"]

log = logging.getLogger(__name__)

StartModel = tuple[str | None, str]  # the folder that the service was started with, and the digest of its card


def settle_settings(settings: ServiceSettings, *, may_write: bool = True) -> tuple[ServiceSettings, StartModel]:
    """Return the settings to work by, and the model that was named at the start.

    The model that an earlier service took by request stays, as long as the service is started with the model that it was
    started with then. Limits are copied, so that every process reads the same ones; not if `may_write` is false, because
    another service's copy is there.

    Raises:
        StoreFault: The earlier setup cannot be read, or nothing can be written next to the store.
        ModelFault: There is no model.
    """
    folder, digest = _find_start_model(settings)
    named = None if folder is None else str(folder)
    previous = read_setup(settings.store)
    model, expect = folder, settings.expect
    if previous is not None and previous.options.model != previous.start_model:
        if (previous.start_model, previous.start_digest) == (named, digest):
            model = Path(previous.options.model) if previous.options.model else None
            expect = {"model": previous.rules["model"]}
            log.info("the service goes on with the model that it took by request", extra={"model": str(model)})
        else:
            log.warning("the model that was taken by request is left: another one is named", extra={"model": named})
    limits = settings.limits if settings.limits is None or not may_write else freeze_limits(settings.store, settings.limits)
    return replace(settings, model=model, expect=expect, limits=limits), (named, digest)


def _find_start_model(settings: ServiceSettings) -> tuple[Path | None, str]:
    """Return the folder of the model that the service is started with, and the digest of its card; empty where it has none."""
    folder = settings.model
    if settings.inspector_factory == DEFAULT_FACTORY:
        folder = find_current_model() if folder is None else resolve(folder)
    if folder is None:
        return None, ""
    try:
        return folder.resolve(), hashlib.sha256((folder / "card.json").read_bytes()).hexdigest()
    except OSError as error:
        if settings.inspector_factory != DEFAULT_FACTORY:
            return folder.resolve(), ""
        raise ModelFault(f"model {folder}", expected="a folder with card.json", found=str(error)) from error


def check_same_rules(store: str, rules: dict[str, Any]) -> None:
    """Check that a further service on a store judges as the first one does.

    Raises:
        UsageFault: It does not.
    """
    setup = read_setup(store)
    difference = Rules(**rules).find_difference(setup.rules if setup is not None else {})
    if difference is not None:
        name, expected, found = difference
        remedy = "Start it with the same options, or with a store of its own."
        raise UsageFault(f"another service's {name} on this store", expected=expected, found=found, remedy=remedy)
