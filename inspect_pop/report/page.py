"""What all pages share: rendering of a template to one self-contained HTML file, and how figures, times and names read.

Styles, script and pictures are inside the page; nothing comes from the network. The page's policy allows only its own script,
by digest, and pictures that the page carries itself: text from an export could not run even if escaping failed.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from inspect_pop.core.classes import CLASSES, DEFECTS, JOINT_CLASSES
from inspect_pop.core.recipe import CONSTRUCTIONS, describe_disposition
from inspect_pop.core.text import pluralize
from inspect_pop.report.style import CLASS_LOOKS, VERDICT_LOOKS, make_style

__all__ = ["encode_jpeg_url", "encode_png_url", "format_number", "format_time", "render", "to_plain", "to_sentence", "to_words"]

_CLASS_WORDS = {c.name: c.words for c in JOINT_CLASSES}
# X-ray crops are grain, in which only runs repeat; maps have a hundred colours, which code better than their differences.
# With these filters the encoder takes a third of the time, and the files are a twentieth and a fifth smaller.
_GRAIN = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
_SHADES = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)


def render(template: str, **values: Any) -> str:
    """Render a template as text. Every value is escaped except `Markup`, which only this package makes."""
    return _make_environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _make_environment() -> Environment:
    loader = PackageLoader("inspect_pop.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    script = loader.get_source(environment, "page.js")[0]
    style = loader.get_source(environment, "page.css")[0] + make_style()
    environment.filters |= {
        "count": pluralize,
        "number": format_number,
        "time": format_time,
        "words": to_words,
        "sentence": to_sentence,
    }
    environment.globals |= {
        "style": Markup(style),  # noqa: S704 (made from our files and tables)
        "script": Markup(script),  # noqa: S704 (our own file)
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "classes": CLASSES,
        "defects": DEFECTS,
        "looks": CLASS_LOOKS,
        "verdicts": VERDICT_LOOKS,
        "describe_disposition": describe_disposition,
        "constructions": {name: construction.words for name, construction in CONSTRUCTIONS.items()},
    }
    return environment


def format_number(value: float | None, decimals: int = 0, unit: str = "", signed: bool = False) -> str:
    """Format a figure with its unit; an en dash for None, NaN and infinity."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text


def format_time(iso: str) -> str:
    """Format an ISO 8601 time for people, in the zone in which it was written; other text stays as it is."""
    try:
        return datetime.fromisoformat(iso).isoformat(sep=" ", timespec="seconds")
    except ValueError:
        return iso


def to_words(name: str | None) -> str:
    """Return a name of the records as words: `head_in_pillow` gives "head-in-pillow", None gives "undecided"."""
    if name is None:
        return "undecided"
    return _CLASS_WORDS.get(name, name.replace("_", " "))


def to_plain(text: str) -> str:
    """Return a record's text with the classes in words: `head_in_pillow 0.63` gives "head-in-pillow 0.63"."""
    for name, words in _CLASS_WORDS.items():
        text = text.replace(name, words) if name != words else text
    return text


def to_sentence(text: str) -> str:
    """Return a record's evidence as the start of a sentence on a page, with µm for um."""
    text = to_plain(text)
    return (text[:1].upper() + text[1:]).replace(" um", "\N{NO-BREAK SPACE}µm")


def encode_png_url(pixels: NDArray[np.uint8]) -> str:
    """Return a `data:` URL of a lossless PNG.

    Args:
        pixels: (rows, cols) grey or (rows, cols, 3) RGB, uint8.

    Raises:
        ValueError: OpenCV cannot encode pixels of this shape or type.
    """
    picture, options = (pixels, _GRAIN) if pixels.ndim == 2 else (pixels[:, :, ::-1], _SHADES)
    return _encode_url("png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 6, *options])


def encode_jpeg_url(pixels: NDArray[np.uint8]) -> str:
    """Return a `data:` URL of a JPEG, for grain: PNG cannot make it smaller, and takes six times as long.

    At this quality greys are off by less than three of 256 steps on average, which is less than the grain itself.

    Args:
        pixels: (rows, cols) grey, uint8.

    Raises:
        ValueError: OpenCV cannot encode pixels of this shape or type.
    """
    return _encode_url("jpeg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])


def _encode_url(kind: str, pixels: NDArray[np.uint8], options: Sequence[int]) -> str:
    done, data = cv2.imencode(f".{kind}", pixels, options)
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} and type {pixels.dtype} cannot be written as {kind.upper()}")
    return f"data:image/{kind};base64," + base64.b64encode(data.tobytes()).decode("ascii")
