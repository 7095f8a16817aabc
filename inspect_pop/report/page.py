"""One self-contained HTML page from a template: styles, script and pictures inside, nothing from the network.

The pages' policy allows only the script that is written here, by its digest, and pictures that the page carries itself:
text from an export cannot run, were it ever to slip through the escaping.
"""

import base64
import hashlib
import math
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from inspect_pop.report.look import CLASS_LOOKS, DISPOSITIONS, VERDICT_LOOKS
from inspect_pop.report.maps import drawn

__all__ = ["number", "render", "when"]


def render(template: str, **values: Any) -> str:
    """The page as text. Every value is escaped but for `Markup` made in this package."""
    return _environment().get_template(template).render(**values)


def number(value: float | None, decimals: int = 0, unit: str = "", signed: bool = False) -> str:
    """A figure with its unit; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text


def when(iso: str) -> str:
    """A time as a person reads it, in the zone in which it was written; text that is no time stays as it is."""
    try:
        return datetime.fromisoformat(iso).isoformat(sep=" ", timespec="seconds")
    except ValueError:
        return iso


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = PackageLoader("inspect_pop.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    script = loader.get_source(environment, "page.js")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.filters |= {"number": number, "when": when, "words": _words, "sentence": _sentence}
    environment.globals |= {
        "style": Markup(loader.get_source(environment, "page.css")[0]),  # noqa: S704 (our own file)
        "script": Markup(script),  # noqa: S704 (our own file)
        "script_digest": digest,
        "looks": {look.name: look for look in CLASS_LOOKS},
        "verdicts": VERDICT_LOOKS,
        "dispositions": DISPOSITIONS,
        "drawn": drawn,
    }
    return environment


def _words(name: str | None) -> str:
    """A name of the records as words: `head_in_pillow` is head-in-pillow, null is undecided."""
    if name is None:
        return "undecided"
    return "head-in-pillow" if name == "head_in_pillow" else name.replace("_", " ")


def _sentence(text: str) -> str:
    """Evidence as it stands in a record, as a sentence on a page."""
    return (text[:1].upper() + text[1:]).replace(" um", "\N{NO-BREAK SPACE}µm")
