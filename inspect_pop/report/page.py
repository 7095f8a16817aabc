"""One self-contained HTML page from a template: styles, script and pictures inside, nothing from the network.

The pages' policy allows only the script that is written here, by its digest, and pictures that the page carries itself:
text from an export cannot run, were it ever to slip through the escaping.

Pictures as bytes that a page can carry.
"""

import base64
import hashlib
import math
from datetime import datetime
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from inspect_pop.report.ball_map import drawn
from inspect_pop.report.style import CLASS_LOOKS, DISPOSITIONS, VERDICT_LOOKS

__all__ = ["jpeg_address", "number", "png_address", "render", "when"]


# ---- report/page
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


# ---- report/pictures
# X-ray crops are grain, in which nothing repeats but runs; maps have a hundred colours, whose differences are more than they
# are themselves. Told so, the coder takes a third of the time and leaves a twentieth and a fifth less.
_GRAIN = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
_SHADES = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)


def png_address(pixels: NDArray[np.uint8]) -> str:
    """A `data:` address of a lossless PNG: (rows, cols) grey or (rows, cols, 3) RGB, uint8."""
    picture, how = (pixels, _GRAIN) if pixels.ndim == 2 else (pixels[:, :, ::-1], _SHADES)
    done, coded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 6, *how])
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} and type {pixels.dtype} cannot be written as PNG")
    return "data:image/png;base64," + base64.b64encode(coded.tobytes()).decode("ascii")


def jpeg_address(pixels: NDArray[np.uint8]) -> str:
    """A `data:` address of a JPEG: (rows, cols) grey, uint8. For grain, which PNG cannot make smaller, in a sixth of its time.

    At this quality greys are off by less than three of 256 steps on average: less than the grain itself.
    """
    done, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} and type {pixels.dtype} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode("ascii")
