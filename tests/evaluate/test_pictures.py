"""What pictures a model has learnt: ranges per machine and method, written into its card."""

import json
from pathlib import Path

import pytest

from inspect_pop.classify.model import LearntPicture, load
from inspect_pop.classify.session import describe_unlike
from inspect_pop.core.errors import UsageFault
from inspect_pop.evaluate.collect import MARGINS, learn_pictures, widen_ranges, write_pictures
from inspect_pop.ingest import open_export
from inspect_pop.measure.joints import PICTURE_FIGURES
from tests.learn.models import make_model


def test_each_figure_has_its_margin_and_a_range_wider_than_what_was_seen() -> None:
    assert set(MARGINS) == set(PICTURE_FIGURES)
    seen = [dict.fromkeys(PICTURE_FIGURES, value) for value in (1.0, 2.0, float("nan"))]
    low, high = widen_ranges(seen)
    assert set(low) == set(PICTURE_FIGURES)
    assert all(low[name] < 1 and high[name] > 2 for name in low)


def test_a_model_learns_the_pictures_of_boards_and_knows_them(small_board: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    before = load(folder)
    (learnt,) = learn_pictures([small_board.parents[1]], "one board")
    export = open_export(small_board)
    assert (learnt.machine, learnt.method, learnt.source) == (export.machine, "laminography", "one board")
    write_pictures(folder, [learnt])
    after = load(folder)
    assert after.card.pictures == (learnt,)
    assert after.digest != before.digest
    assert (after.network, after.card.calibration) == (before.network, before.card.calibration)
    assert json.loads((folder / "card.json").read_text())["pictures"][0]["machine"] == export.machine


def test_boards_without_slices_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="boards with X-ray slices"):
        write_pictures(make_model(tmp_path / "m"), [])


def picture(method: str, **ranges: tuple[float, float]) -> LearntPicture:
    low, high = ({name: pair[k] for name, pair in ranges.items()} for k in (0, 1))
    return LearntPicture(machine="A/1", method=method, source="", low=low, high=high)


def test_a_picture_is_known_by_all_its_figures_on_one_machine() -> None:
    """Not by one figure on this machine and one on that. Words compare with the machine that differs in the fewest."""
    learnt = picture("ct", sharpness=(0.8, 1.6), noise=(0, 1)), picture("ct", sharpness=(2, 3), noise=(5, 6))
    assert describe_unlike({"sharpness": 1.0, "noise": 0.5}, "ct", learnt)[0] == ""
    assert describe_unlike({"sharpness": 2.3, "noise": 0.5}, "ct", learnt)[0] == "sharpness 2.3 of learnt 0.8 to 1.6"
    assert describe_unlike({"sharpness": float("nan"), "noise": 0.5}, "ct", learnt)[0] == ""
    assert describe_unlike({"sharpness": 1.0, "noise": 0.5}, "laminography", learnt)[0] == "no picture by laminography was learnt"
    assert describe_unlike({"sharpness": 9.0, "noise": 9.0}, "ct", ())[0] == ""  # the model does not say


def test_only_what_differs_from_product_to_product_may_lie_a_little_outside() -> None:
    """An 8-bit picture is beyond the range of the grey levels by little, and must not count as known."""
    learnt = (picture("ct", ball_profile=(1.0, 1.2), levels=(300, 1600), contrast=(0.1, 0.3)),)
    usual = {"ball_profile": 1.1, "levels": 900.0, "contrast": 0.2}
    for value, words in ((1.29, ""), (0.91, ""), (1.31, "ball_profile 1.31 of learnt 1 to 1.2")):
        assert describe_unlike(usual | {"ball_profile": value}, "ct", learnt)[0] == words
    assert describe_unlike(usual | {"levels": 255.0}, "ct", learnt)[0] == "levels 255 of learnt 300 to 1.6e+03"
    assert describe_unlike(usual | {"contrast": 0.31}, "ct", learnt)[0] == "contrast 0.31 of learnt 0.1 to 0.3"
