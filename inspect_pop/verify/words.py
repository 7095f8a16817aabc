"""The pages and the words that they show: files of this package, nothing from a network. `frame.html` is what all pages share.

A language is one TOML file in `texts/`. English is the catalogue; every other language has exactly its keys.
"""

import tomllib
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from jinja2 import Environment, PackageLoader, StrictUndefined

from inspect_pop.core.errors import UsageFault
from inspect_pop.report.page import CLASS_LOOKS

__all__ = ["LANGUAGES", "STATIC_TYPES", "read_looks", "read_page", "read_static", "read_words"]

LANGUAGES = {"en": "English", "zh": "简体中文"}
STATIC_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@lru_cache
def read_page(name: str = "index") -> str:
    """Return a page as HTML: `index`, `training`, `disagreements`. Style and scripts are files: it needs no inline source."""
    loader = PackageLoader("inspect_pop.verify", "static")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(f"{name}.html").render()


@lru_cache
def read_static(name: str) -> tuple[bytes, str]:
    """Return a file of the page and its media type. Raises `UsageFault` for a name that is none of its files."""
    kind = STATIC_TYPES.get(name.rpartition(".")[2])
    known = {file.name for file in _find("static").iterdir()}
    if name not in known or kind is None:
        raise UsageFault(f"{name[:80]!r}", expected="a file of the page", found="none of this name")
    return _find("static", name).read_bytes(), f"{kind}; charset=utf-8"


@lru_cache
def read_words(language: str) -> dict[str, str]:
    """Return the words of a language by their key. Raises `UsageFault` for a language that the page does not have."""
    if language not in LANGUAGES:
        raise UsageFault(f"language {language[:20]!r}", expected=" or ".join(LANGUAGES), found="another one")
    words = tomllib.loads(_find("texts", f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{group}.{key}": text for group, entries in words.items() for key, text in entries.items()}


def read_looks() -> list[dict[str, str]]:
    """Return how the page marks each class, as reports do: colour, letter and outline."""
    looks = CLASS_LOOKS.values()
    return [{n: getattr(look, n) for n in ("name", "colour", "letter", "letter_colour", "outline")} for look in looks]


def _find(*parts: str) -> Traversable:
    return files("inspect_pop.verify").joinpath(*parts)
