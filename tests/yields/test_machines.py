"""Every state of a machine, from records in a store: what takes it there, and what must not."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Qualification, Store, open_store
from inspect_pop.yields.machines import (
    BASELINE,
    FIGURES,
    PERSISTENCE,
    RECENT,
    MachineBoard,
    chart_figure,
    find_drift,
    read_machines,
    require_machine,
)
from tests.factories import make_inspection

PLAIN = make_inspection("S", side={"lower": 2})
LIKE = {"sharpness": (0.17, 0.005), "noise": (0.0012, 0.0001), "log_odds_50": (-12.0, 0.35)}
UNLIKE = "U1/lower: sharpness 2.3 of learnt 0.8 to 1.6"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "records.db") as opened:
        yield opened


def draw(n: int, seed: int = 0, **change: np.ndarray) -> list[dict[str, float]]:
    """Figures of n boards as usual; `change` multiplies the figures of each board."""
    rng = np.random.default_rng(seed)
    drawn = {name: centre + spread * rng.normal(size=n) for name, (centre, spread) in LIKE.items()}
    drawn |= {name: drawn[name] * factor for name, factor in change.items()}
    return [{name: float(values[k]) for name, values in drawn.items()} for k in range(n)]


def series(figures: list[dict[str, float]], recipe: str = "r") -> list[MachineBoard]:
    return [MachineBoard(f"S{k}", f"{k}", k, recipe, "m", "l", 8, 0, 0, "", {"U1/lower": f}) for k, f in enumerate(figures)]


def write(store: Store, figures: list[dict[str, float]], first: int = 0, **board: Any) -> None:
    """Write a board for each, one a minute."""
    for k, of_board in enumerate(figures, first):
        at = f"2026-03-{2 + k // 600:02d}T{k // 60 % 10:02d}:{k % 60:02d}:00+00:00"
        fields = {"record": f"{k:032x}", "serial": f"S{k}", "inspected_at": at} | board
        pictures = json.dumps({"U1/lower": of_board}) if of_board else ""
        store.write(replace(PLAIN, board=replace(PLAIN.board, pictures=pictures, **fields)))


def qualify(store: Store, **change: Any) -> None:
    """A passed qualification of the machine of the records."""
    digests = (PLAIN.board.limits_digest, "relaxed")
    made = Qualification(
        "SMT-1/AXI-1", PLAIN.board.model_digest, "ipc-a-610", digests, True, "Ada", "2026-03-01T00:00:00+00:00", (("Q1", "d1"),)
    )
    store.add_qualification(replace(made, **change))


def test_a_machine_whose_pictures_are_like_those_that_were_learnt_is_known(store: Store) -> None:
    write(store, draw(3))
    (machine,) = read_machines(store)
    assert (machine.machine, machine.state, machine.since) == ("SMT-1/AXI-1", "known", "2026-03-02T00:00:00+00:00")
    assert len(machine.boards) == 3
    assert machine.to_dict()["qualified"] is False


def test_a_machine_whose_pictures_are_unlike_is_unfamiliar_from_its_first_board(store: Store) -> None:
    write(store, draw(2), unlike=UNLIKE)
    (machine,) = read_machines(store)
    assert (machine.state, machine.why, machine.since) == ("unfamiliar", UNLIKE, "2026-03-02T00:00:00+00:00")


def test_a_machine_is_unfamiliar_by_the_majority_of_its_latest_boards(store: Store) -> None:
    """A single strange board does not make a machine strange; half of the latest do, from then on."""
    write(store, draw(RECENT))
    write(store, draw(1), first=RECENT, unlike=UNLIKE)
    assert read_machines(store)[0].state == "known"
    write(store, draw(RECENT), first=RECENT + 1, unlike=UNLIKE)
    (machine,) = read_machines(store)
    assert machine.state == "unfamiliar"
    assert machine.since == machine.boards[RECENT + RECENT // 2 - 1].inspected_at


def test_joints_that_are_unfamiliar_count_as_the_picture_does(store: Store) -> None:
    from inspect_pop.core.flags import bit

    flagged = make_inspection("S", side={"lower": 2}, reviews={f"U1.lower.{ball}": "unlike" for ball in ("A1", "A2", "B1", "B2")})
    flagged = replace(flagged, joints=flagged.joints.replace(flags=flagged.joints["flags"] | bit("unfamiliar")))
    store.write(flagged)
    (machine,) = read_machines(store)
    assert (machine.state, machine.share("unfamiliar"), machine.share("review")) == ("unfamiliar", 1.0, 1.0)


def test_records_without_figures_leave_a_machine_unwatched(store: Store) -> None:
    write(store, [{}])
    (machine,) = read_machines(store)
    assert machine.state == "unwatched"
    assert find_drift(machine.boards) == []


def test_a_machine_is_qualified_for_the_model_and_the_limits_of_its_latest_board(store: Store) -> None:
    write(store, draw(2), unlike=UNLIKE)
    qualify(store)
    (machine,) = read_machines(store)
    assert (machine.state, machine.since) == ("qualified", "2026-03-01T00:00:00+00:00")
    assert "Ada" in machine.why
    write(store, draw(1), first=2, limits_digest="relaxed", unlike=UNLIKE)
    assert read_machines(store)[0].state == "qualified"
    for other in ({"limits_digest": "others"}, {"model_digest": "another"}, {"station": "AXI-2"}):
        write(store, draw(1), first=3, record=str(other), unlike=UNLIKE, **other)
        assert read_machines(store)[-1].state == "unfamiliar"


@pytest.mark.parametrize("later", [{"passed": False}, {"passed": False, "limits_digests": None}])
def test_the_last_attempt_counts(store: Store, later: dict[str, Any]) -> None:
    write(store, draw(1), unlike=UNLIKE)
    qualify(store)
    digests = later.pop("limits_digests", ()) or (PLAIN.board.limits_digest, "relaxed")
    qualify(store, limits_digests=digests, **later)
    (machine,) = read_machines(store)
    assert machine.state == "unfamiliar"
    assert machine.to_dict()["last_attempt"]["passed"] is False
    assert store.list_qualified() == []


def test_a_machine_whose_noise_rises_is_drifting_by_its_noise(store: Store) -> None:
    rise = np.concatenate([np.ones(BASELINE + 20), np.linspace(1, 2, 60)])
    write(store, draw(len(rise), noise=rise))
    (machine,) = read_machines(store)
    assert machine.state == "drifting"
    assert [d.figure for d in machine.drifts] == ["noise"]
    assert machine.drifts[0].latest > 1.7 * machine.drifts[0].usual
    assert machine.since > machine.boards[BASELINE + 20].inspected_at
    assert machine.why.startswith("noise 0.002") and "above" in machine.why


def test_a_machine_that_does_not_change_does_not_drift() -> None:
    """Few of the boards that chance draws lie outside; docs/lab/machines.md has the run lengths."""
    assert [find_drift(series(draw(400, seed))) for seed in range(10)] == [[]] * 10


def test_one_odd_board_is_no_drift_and_a_row_of_them_is() -> None:
    usual = BASELINE + 30
    odd = np.ones(usual + 20)
    odd[usual] = 1000.0
    assert not chart_figure(series(draw(len(odd), noise=odd)), "noise").find_beyond().any()
    odd[usual : usual + 20] = 1000.0
    chart = chart_figure(series(draw(len(odd), noise=odd)), "noise")
    beyond, is_drifting = np.flatnonzero(np.abs(chart.average) > chart.limit), chart.find_beyond()
    assert beyond[0] > usual
    assert np.flatnonzero(is_drifting)[0] == beyond[0] + PERSISTENCE - 1
    assert is_drifting[-1]


def test_a_drift_ends_after_as_many_boards_within_the_limit() -> None:
    change = np.concatenate([np.ones(BASELINE + 10), np.full(30, 2.0), np.ones(60)])
    is_drifting = chart_figure(series(draw(len(change), noise=change)), "noise").find_beyond()
    assert is_drifting[BASELINE + 39] and not is_drifting[-1]


def test_another_product_is_no_drift() -> None:
    """Each recipe is compared with its own first boards."""
    first, second = series(draw(2 * BASELINE)), series(draw(2 * BASELINE, 1, noise=np.full(2 * BASELINE, 3.0)), "other")
    assert find_drift([*first, *second]) == []
    mixed = [board for pair in zip(first, second, strict=True) for board in pair]
    assert find_drift(mixed) == []


def test_a_baseline_begins_anew_with_a_qualification(store: Store) -> None:
    """What was qualified is what is usual from then on."""
    change = np.concatenate([np.ones(BASELINE + 10), np.full(2 * BASELINE, 2.0)])
    write(store, draw(len(change), noise=change))
    assert read_machines(store)[0].state == "drifting"
    at = read_machines(store)[0].boards[BASELINE + 10].inspected_at
    qualify(store, qualified_at=at)
    assert read_machines(store)[0].state == "qualified"


def test_only_boards_of_the_latest_model_count(store: Store) -> None:
    write(store, draw(5), unlike=UNLIKE)
    write(store, draw(2), first=5, model_digest="new")
    (machine,) = read_machines(store)
    assert (machine.state, len(machine.boards)) == ("known", 2)


def test_only_the_latest_boards_are_read_and_the_most_urgent_machine_comes_first(store: Store) -> None:
    write(store, draw(3))
    write(store, draw(2), first=3, line="SMT-0", unlike=UNLIKE)
    assert [(m.machine, len(m.boards)) for m in read_machines(store)] == [("SMT-0/AXI-1", 2), ("SMT-1/AXI-1", 3)]
    assert [m.machine for m in read_machines(store, most=2)] == ["SMT-0/AXI-1"]
    with pytest.raises(UsageFault, match="SMT-0/AXI-1, SMT-1/AXI-1"):
        require_machine(read_machines(store), "nowhere")
    assert require_machine(read_machines(store), "SMT-1/AXI-1").machine == "SMT-1/AXI-1"


def test_charts_have_every_figure_and_no_number_that_json_lacks(store: Store) -> None:
    write(store, draw(BASELINE + 3))
    charts = read_machines(store)[0].draw_charts()
    assert [chart["figure"] for chart in charts] == list(FIGURES)
    assert json.loads(json.dumps(charts, allow_nan=False)) == charts
    noise = charts[1]
    assert (noise["points"], noise["average"][0], len(noise["value"])) == (3, None, BASELINE + 3)


def test_an_empty_store_has_no_machine(store: Store) -> None:
    assert read_machines(store) == []
