"""How far to go from the old weights to the new ones."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.model import Calibration  # noqa: E402
from inspect_pop.learn import diagnostics as quick  # noqa: E402
from inspect_pop.learn.diagnostics import Fold, choose_share  # noqa: E402
from tests.learn.sets import make_samples  # noqa: E402

PRIOR = Calibration(temperature=1.0, bias=(0.0,) * 5)
SHARES = (0.0, 0.5, 1.0)


def chosen(monkeypatch: pytest.MonkeyPatch, errors: dict[float, tuple[int, ...]]) -> tuple[float, dict[str, float]]:
    """Networks that are as sure of everything, and wrong about so many joints of each of four boards."""
    samples = make_samples(4, 50)

    def look(share: float, held_out: object, prior: object) -> tuple[np.ndarray, None]:
        said = samples.label.astype(int)
        for board, wrong in enumerate(errors[share]):
            rows = np.flatnonzero(samples.board == board)[:wrong]
            said[rows] = (said[rows] + 1) % 5
        return 4 * np.eye(5, dtype=np.float32)[said], None

    monkeypatch.setattr(quick, "between", lambda old, new, share: share)
    monkeypatch.setattr(quick, "look", look)
    return choose_share(None, [Fold(None, samples)], SHARES, PRIOR)  # type: ignore[arg-type]


def test_what_explains_boards_held_out_best_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    share, losses = chosen(monkeypatch, {0.0: (8, 9, 8, 9), 0.5: (2, 2, 3, 2), 1.0: (8, 8, 9, 9)})
    assert share == 0.5
    assert set(losses) == {"0", "0.5", "1"}
    assert losses["0.5"] == min(losses.values())


def test_of_shares_that_explain_as_well_the_farthest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, {0.0: (4, 4, 4, 4), 0.5: (4, 4, 4, 4), 1.0: (1, 8, 2, 6)})[0] == 1.0


def test_what_is_worse_on_every_board_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, {0.0: (4, 4, 4, 4), 0.5: (5, 5, 5, 5), 1.0: (9, 9, 9, 8)})[0] == 0.0
