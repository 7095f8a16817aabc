"""Limits from a file, with profiles; what is unknown or out of range is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from inspect_pop.core.errors import LimitsFault
from inspect_pop.core.limits import DEFAULT_PROFILE, Limits, describe_limits, load_limits


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "limits.toml"
    path.write_text("void_fraction = 0.3\n[profile.class3]\nvoid_fraction = 0.2\nexcess_volume = 1.5\n")
    return path


def test_a_file_overrides_the_defaults_and_a_profile_the_file(file: Path) -> None:
    assert load_limits(file) == Limits(void_fraction=0.3)
    class3 = load_limits(file, "class3")
    assert class3 == Limits(profile=replace(DEFAULT_PROFILE, name="class3"), void_fraction=0.2, excess_volume=1.5)


def test_the_digest_follows_the_values(file: Path) -> None:
    assert Limits().digest == Limits().digest != load_limits(file).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("void_limit = 0.3", "void_limit: expected one of .*, found an unknown key"),
        ("void_fraction = 30", r"void_fraction: expected a number from 0.0 to 1.0 1, found 30"),
        ("void_fraction = true", "void_fraction: expected a number"),
        ("void_fraction = '0.3'", "void_fraction: expected a number"),
        ("void_fraction = nan", "void_fraction: expected a number"),
        ("void_fraction", "expected a TOML file"),
    ],
)
def test_what_is_no_limit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(LimitsFault, match=message):
        load_limits(tmp_path / "a.toml")


def test_a_missing_file_and_a_missing_profile_are_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(LimitsFault, match="expected a TOML file"):
        load_limits(tmp_path / "none.toml")
    with pytest.raises(LimitsFault, match=r"profile class2: expected one of .'class3', 'ipc-a-610', 'measure-only'"):
        load_limits(file, "class2")


@pytest.mark.parametrize(("name", "default", "about"), describe_limits(), ids=lambda v: v if isinstance(v, str) else "")
def test_every_limit_is_within_its_range_and_says_why(name: str, default: float, about: dict[str, object]) -> None:
    assert getattr(Limits(), name) == default
    assert about["low"] <= default <= about["high"]  # type: ignore[operator]
    assert about["meaning"] and about["source"]


def test_without_a_file_a_profile_is_one_of_the_table() -> None:
    assert load_limits(None) == Limits()
    assert load_limits(None, "measure-only").profile.criteria == ()
    with pytest.raises(LimitsFault, match=r"profile class3: expected one of .'ipc-a-610', 'measure-only'"):
        load_limits(None, "class3")


def test_a_profile_of_the_file_changes_criteria(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[profile.class3]\nvoid_fraction = 0.2\n[profile.class3.criteria.void_area]\nfail = 0.2\nreview = 0.15\n")
    limits = load_limits(path, "class3")
    assert (limits.void_fraction, limits.profile.name) == (0.2, "class3")
    assert (limits.profile.criteria[0].fail, limits.profile.criteria[0].review) == (0.2, 0.15)
    assert load_limits(path, "measure-only").profile.name == "measure-only"
    assert len({limits.digest, Limits().digest, load_limits(path, "measure-only").digest}) == 3


def test_a_file_with_a_byte_order_mark_counts_as_without(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load_limits(file) == Limits(void_fraction=0.3)


def test_a_file_in_utf_16_is_refused(file: Path) -> None:
    file.write_text(file.read_text(), encoding="utf-16")
    with pytest.raises(LimitsFault, match="a TOML file of limits"):
        load_limits(file)
