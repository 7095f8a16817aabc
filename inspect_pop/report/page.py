"""What all pages share: how they show classes, verdicts and figures, and how a template becomes one HTML file.

The colours of the classes are Okabe and Ito's (Color Universal Design, 2008), which readers of every colour vision can tell
apart. Shape and letter say the same again, so that a black and white print loses nothing.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from inspect_pop.core.classes import CLASSES, DEFECTS, GOOD, JOINT_CLASSES
from inspect_pop.core.columns import COLUMNS, Display
from inspect_pop.core.recipe import CONSTRUCTIONS, describe_disposition
from inspect_pop.core.text import pluralize

__all__ = [
    "CLASS_LOOKS",
    "DISPLAYS",
    "MARK_RADIUS",
    "VERDICT_LOOKS",
    "ClassLook",
    "VerdictLook",
    "encode_jpeg_url",
    "encode_png_url",
    "format_number",
    "format_time",
    "make_style",
    "render",
    "to_plain",
    "to_sentence",
    "to_words",
]

# Browsers round very small fonts: marks are drawn this large and scaled down where they are placed.
MARK_RADIUS = 10
_INK, _PAPER = "#16202a", "#fff"


@dataclass(frozen=True)
class ClassLook:
    """How pages mark a joint.

    Attributes:
        name: Its class in the records, or `undecided`.
        words: The class as people read it.
        colour, letter, outline: The mark; the outline is an SVG path of radius about `MARK_RADIUS`.
        verdict: The verdict with which a legend shows the mark.
    """

    name: str
    words: str
    colour: str
    letter: str
    outline: str
    verdict: str

    @property
    def letter_colour(self) -> str:
        """The colour of the letter: dark on bright marks (luma of Rec. 601 above 140 of 255), white on others."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _PAPER


CLASS_LOOKS = {
    look.name: look
    for look in (
        *(ClassLook(c.name, c.words, c.colour, c.letter, c.outline, "pass" if c.name == GOOD else "fail") for c in JOINT_CLASSES),
        ClassLook("undecided", "for review", _INK, "?", JOINT_CLASSES[0].outline, "review"),
    )
}


@dataclass(frozen=True)
class VerdictLook:
    """How pages show a verdict: word, sign and colour (dark enough for white text at 4.5:1)."""

    name: str
    words: str
    sign: str
    colour: str


VERDICT_LOOKS = {
    v.name: v
    for v in (
        VerdictLook("pass", "Pass", "✓", "#1b6e3c"),
        VerdictLook("fail", "Fail", "✕", "#a3241c"),
        VerdictLook("review", "Review", "?", "#7a4f00"),
    )
}

# The columns that pages show, in their order: those of a joint's card, other sizes and shares, and those with a sign.
DISPLAYS: dict[str, Display] = dict(
    sorted(
        ((c.name, c.display) for c in COLUMNS if c.display is not None),
        key=lambda item: (not item[1].strip, item[1].signed),
    )
)


def make_style() -> str:
    """Return the CSS that follows from the tables: a colour per verdict, and colours of mark and letter per class."""
    verdicts = " ".join(f"--{v.name}: {v.colour};" for v in VERDICT_LOOKS.values())
    classes = "\n".join(f".k-{c.name} {{ --c: {c.colour}; --letter: {c.letter_colour}; }}" for c in CLASS_LOOKS.values())
    return f":root {{ {verdicts} }}\n{classes}\n"


# What all pages share: rendering of a template to one self-contained HTML file, and how figures, times and names read.
#
# Styles, script and pictures are inside the page; nothing comes from the network. The page's policy allows only its own script,
# by digest, and pictures that the page carries itself: text from an export could not run even if escaping failed.


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
