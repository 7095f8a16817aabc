"""Defaults by pitch agree with the table of their source."""

import pytest

from inspect_pop.recipes.draft import compute_standoff, guess_ball, guess_pad


@pytest.mark.parametrize(
    ("pitch", "ball", "pad", "standoff"),
    [(350, 200, 180, 125), (400, 250, 220, 159), (500, 300, 260, 194), (650, 400, 330, 271)],
)
def test_the_table(pitch: float, ball: float, pad: float, standoff: float) -> None:
    assert guess_ball(pitch) == ball
    assert guess_pad(pitch, ball) == pytest.approx(pad)
    assert compute_standoff(ball, pad) == pytest.approx(standoff, abs=1)


def test_beyond_the_table_in_proportion() -> None:
    assert guess_ball(1270) == pytest.approx(635)
    assert guess_ball(300) == pytest.approx(200 * 300 / 350)
    assert guess_pad(400, 125) == pytest.approx(110), "a smaller ball has a smaller pad"
