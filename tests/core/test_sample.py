"""The joints that passed and that a person looks at, too."""

from inspect_pop.core.inspection import choose_sample
from tests.factories import make_inspection


def test_twenty_boards_give_twenty_joints_that_passed() -> None:
    boards = [make_inspection(f"S{k}", defects={"U1.lower.A1": "open"}, record=f"r{k}") for k in range(20)]
    chosen = [choose_sample(b.board.record, b.joints) for b in boards]
    assert sum(len(rows) for rows in chosen) == 20
    assert all((b.joints["verdict"][rows] == "pass").all() for b, rows in zip(boards, chosen, strict=True))
    assert len({int(rows[0]) for rows in chosen}) > 5  # not one place on all boards


def test_the_choice_follows_from_record_and_names_alone() -> None:
    board = make_inspection("S", record="r")
    chosen = choose_sample("r", board.joints, 3)
    assert list(chosen) == sorted(choose_sample("r", make_inspection("T", record="r", seed=7).joints, 3))
    assert set(choose_sample("r", board.joints, 2)) < set(chosen)
    assert list(choose_sample("q", board.joints, 3)) != list(chosen)


def test_a_board_without_passing_joints_gives_none() -> None:
    board = make_inspection("S", side={"lower": 2}, undecided=[f"U1.lower.{b}" for b in ("A1", "A2", "B1", "B2")])
    assert choose_sample("r", board.joints, 5).tolist() == []
    assert choose_sample("r", make_inspection("S").joints, 0).tolist() == []
