"""Every text of the page is in the catalogue, in both languages; the page loads nothing from elsewhere."""

import re
import tomllib
from pathlib import Path

import pytest

from inspect_pop.core.classes import CAUSES, CLASSES, VERDICTS
from inspect_pop.core.columns import COLUMNS
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.flags import FLAGS
from inspect_pop.core.limits import CRITERIA
from inspect_pop.verify import words
from inspect_pop.verify.words import LANGUAGES, read_looks, read_page, read_static, read_words
from inspect_pop.yields.machines import FIGURES, STATES

STATIC = Path(words.__file__).with_name("static")
SCRIPTS = sorted(STATIC.glob("*.js"))
PAGES = sorted(STATIC.glob("*.html"))
NAMES = [page.stem for page in PAGES if page.stem != "frame"]
SOURCE = "".join(file.read_text(encoding="utf-8") for file in (*PAGES, *SCRIPTS))


def test_languages_have_the_same_keys_and_places_to_fill_in() -> None:
    english, *others = [read_words(language) for language in LANGUAGES]
    assert set(LANGUAGES) == {"en", "zh"}
    for other in others:
        assert set(other) == set(english)
        for key, text in english.items():
            assert sorted(re.findall(r"\{\w+\}", other[key])) == sorted(re.findall(r"\{\w+\}", text)), key
            assert other[key].strip() and text.strip(), key


def test_chinese_is_chinese() -> None:
    chinese, english = read_words("zh"), read_words("en")
    same = {key for key, text in chinese.items() if not re.search("[\u4e00-\u9fff]", text)}
    assert all(re.fullmatch(r"\W*(\{\w+\}\W*)*", english[key]) for key in same)


def test_every_table_of_the_product_has_its_words() -> None:
    known = set(read_words("en"))
    named = {"class": CLASSES, "verdict": VERDICTS, "criterion": [c.name for c in CRITERIA], "flag": [f.name for f in FLAGS]}
    named |= {"cause": CAUSES, "column": [c.name for c in COLUMNS if c.display is not None]}
    assert {f"{group}.{name}" for group, names in named.items() for name in names} <= known
    assert {f"machine_state.{state}" for state in STATES} | {f"figure.{figure}" for figure in FIGURES} <= known
    assert {look["name"] for look in read_looks()} == {*CLASSES, "undecided"}


def test_every_key_that_the_page_names_exists_and_none_is_left_over() -> None:
    known = set(read_words("en"))
    fixed = set(re.findall(r"""data-word(?:-label|-hint)?="([\w.]+)\"""", SOURCE)) | set(
        re.findall(r"""say\(\s*"([\w.]+)\"""", SOURCE)
    )
    assert fixed <= known
    groups = {
        "state",
        "stage",
        "verdict",
        "final",
        "class",
        "group",
        "interface",
        "column",
        "criterion",
        "flag",
        "cause",
        "keys",
        "learning",
        "machine_state",
        "figure",
    }
    for key in known:
        group, _, _ = key.partition(".")
        assert group in groups or f'"{key}"' in SOURCE or f"`{group}." in SOURCE, f"{key} is not used"


def test_no_text_stands_in_the_scripts() -> None:
    """A text is a literal with two words of small letters, or with letters that are not ASCII's."""
    for script in SCRIPTS:
        code = re.sub(r"(?m)//.*$", "", script.read_text(encoding="utf-8"))
        for literal in re.findall(r'"([^"\n]*)"', code):
            assert not re.search(r"[a-z]{2,} [a-z]{2,}", literal.replace("noopener", "")), f"{script.name}: {literal}"
            assert not re.search("[\u4e00-\u9fff]", literal), f"{script.name}: {literal}"
    for name in NAMES:
        body = re.sub(r"<(option value=\"(en|zh)\"[^>]*)>[^<]*", r"<\1>", read_page(name))
        body = re.sub(r"<title>.*?</title>", "", body)
        assert re.findall(r">[^<>]*[A-Za-z]{2,}[^<>]*<", body) == []


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_source() -> None:
    assert re.findall(r"https?://(?!www\.w3\.org)", SOURCE) == []
    pages = "".join(map(read_page, NAMES))
    assert re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", pages) == []
    for name in re.findall(r"/verify/static/([\w.]+)", pages) + re.findall(r'from "\./([\w.]+)"', SOURCE):
        content, media_type = read_static(name)
        assert content and "charset=utf-8" in media_type


@pytest.mark.parametrize("name", ["../words.py", "nothing.js", "", "index", "__init__.py", "index.html", "frame.html"])
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(UsageFault, match="a file of the page"):
        read_static(name)


def test_every_page_is_whole_and_in_the_same_frame() -> None:
    assert sorted(NAMES) == ["disagreements", "index", "machines", "training"]
    for name in NAMES:
        page = read_page(name)
        assert page.startswith("<!doctype html>") and page.count("<main ") == page.count("</html>") == 1 and "{%" not in page
        assert {'id="language"', 'href="/training"', 'id="log-out"', 'id="notice"'} <= set(
            re.findall(r'(?:id|href)="[^"]+"', page)
        )


def test_other_languages_are_refused() -> None:
    with pytest.raises(UsageFault, match="en or zh"):
        read_words("../en")


def test_the_catalogues_are_in_the_package() -> None:
    for language in LANGUAGES:
        assert tomllib.loads((STATIC.parent / "texts" / f"{language}.toml").read_text(encoding="utf-8"))["app"]["title"]
    options = tomllib.loads((STATIC.parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert {"verify/static/*", "verify/texts/*"} <= set(options["inspect_pop"])
