"""Labels from decisions: what is a class becomes a label, what is none stays out."""

from pathlib import Path

import pytest

from inspect_pop.evaluate.collect import collect
from inspect_pop.evaluate.decision_labels import collect_decision_labels, write_decision_labels
from inspect_pop.ingest.pop_export import read_labels
from inspect_pop.store import Decision, Store, open_store
from tests.factories import again, make_inspection

BOARD = make_inspection(
    "B 1", defects={"U1.lower.A1": "bridged", "U1.lower.A2": "open"}, reviews={"U1.upper.B2": "between two classes"}
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(tmp_path / "records.db")
    opened.write(BOARD)
    return opened


def decide(
    store: Store, joint: str, state: str, label: str | None = None, *, record: str = "", minute: int = 0, stage: str = "operator"
) -> None:
    at = f"2026-03-02T12:{minute:02d}:00+01:00"
    decision = Decision(record or BOARD.board.record, *joint.split("."), state, "Ada", at, label, "seen in slice 3", stage)
    store.add_decision(decision)


def labels_of(store: Store) -> dict[str, str]:
    return {f"{j.refdes}.{j.interface}.{j.ball}": j.label for j in collect_decision_labels(store).labels}


@pytest.mark.parametrize(
    ("joint", "state", "label", "expected"),
    [
        ("U1.lower.A1", "DefectConfirmed", None, "bridged"),  # the machine's class
        ("U1.lower.A1", "DefectConfirmed", "open", "open"),
        ("U1.lower.A1", "DefectRejected", None, "good"),
        ("U1.lower.A1", "DefectAccepted", None, None),  # says what becomes of the board
        ("U1.lower.A1", "DefectRepaired", None, None),
        ("U1.lower.A1", "DefectClosed", None, None),
        ("U1.lower.A1", "DefectRepaired", "starved", "starved"),
        ("U1.upper.B2", "DefectConfirmed", None, None),  # a doubt that is confirmed: a defect, but which?
        ("U1.upper.B2", "DefectRejected", None, "good"),
        ("U1.upper.A1", "DefectMissed", None, None),
        ("U1.upper.A1", "DefectMissed", "head_in_pillow", "head_in_pillow"),
        ("U1.upper.A1", "PassConfirmed", None, "good"),
        ("U1.upper.A1", "DefectRejected", None, "good"),  # a person looked at a joint that passed
        ("U1.upper.A1", "PassConfirmed", None, "good"),
    ],
)
def test_a_decision_is_a_label_where_it_says_the_class(
    store: Store, joint: str, state: str, label: str | None, expected: str | None
) -> None:
    decide(store, joint, state, label)
    assert labels_of(store) == ({} if expected is None else {joint: expected})
    assert len(collect_decision_labels(store).unclear) == (expected is None)


def test_what_nobody_decided_has_no_label(store: Store) -> None:
    assert labels_of(store) == {}


def test_a_withdrawn_decision_has_no_label_and_what_stands_again_has(store: Store) -> None:
    decide(store, "U1.lower.A1", "DefectConfirmed", minute=1)
    decide(store, "U1.lower.A1", "DefectWithdrawn", minute=2)
    assert (labels_of(store), collect_decision_labels(store).unclear) == ({}, ())
    decide(store, "U1.lower.A1", "DefectRejected", minute=3)
    assert labels_of(store) == {"U1.lower.A1": "good"}


def test_the_last_word_counts_and_a_repair_changes_no_class(store: Store) -> None:
    decide(store, "U1.lower.A1", "DefectRejected", minute=1)
    decide(store, "U1.lower.A1", "DefectConfirmed", minute=2)
    decide(store, "U1.lower.A1", "DefectRepaired", minute=3)
    assert labels_of(store) == {"U1.lower.A1": "bridged"}
    assert collect_decision_labels(store).unclear == ()


def test_what_was_taken_back_is_no_label_and_the_one_before_does_not_come_back(store: Store) -> None:
    decide(store, "U1.lower.A1", "DefectConfirmed", minute=1)
    decide(store, "U1.lower.A1", "DefectRejected", minute=2)
    decide(store, "U1.lower.A1", "DefectWithdrawn", minute=3)
    found = collect_decision_labels(store)
    assert (found.labels, found.unclear) == ((), ())
    decide(store, "U1.lower.A1", "DefectConfirmed", "open", minute=4)
    assert labels_of(store) == {"U1.lower.A1": "open"}


def test_the_repair_station_outranks_the_operator(store: Store) -> None:
    decide(store, "U1.lower.A1", "DefectConfirmed", minute=1)
    decide(store, "U1.lower.A1", "DefectRejected", minute=2, stage="repair")
    decide(store, "U1.lower.A2", "DefectConfirmed", minute=3)
    decide(store, "U1.lower.A2", "DefectRepaired", minute=4, stage="repair")  # says nothing about the class
    assert labels_of(store) == {"U1.lower.A1": "good", "U1.lower.A2": "open"}
    assert [joint.stage for joint in collect_decision_labels(store).labels] == ["repair", "operator"]
    decide(store, "U1.lower.A1", "DefectWithdrawn", minute=5, stage="repair")
    assert labels_of(store)["U1.lower.A1"] == "bridged", "what the operator said stands again"


def test_a_joint_of_the_sample_stands_for_those_that_passed(tmp_path: Path) -> None:
    """25 joints, 3 suspects, 22 passed; 4 drawn, of which 2 were looked at: each stands for 11."""
    with open_store(tmp_path / "sampled.db", verify_sample=4) as store:
        store.write(BOARD)
        drawn = [".".join(joint) for joint in store.sample(BOARD.board.record)]
        other = next(f"U1.lower.{r}{c}" for r in "CD" for c in "1234" if f"U1.lower.{r}{c}" not in drawn)
        decide(store, drawn[0], "PassConfirmed")
        decide(store, drawn[1], "DefectMissed", "open")
        decide(store, other, "DefectMissed", "open")  # found elsewhere: nobody drew it
        decide(store, "U1.lower.A1", "DefectRejected")
        found = collect_decision_labels(store)
        write_decision_labels(found, tmp_path / "labels.csv")
    assert len(drawn) == 4
    assert {j.name: (j.role, j.stands_for) for j in found.labels} == {
        drawn[0]: ("sample", 11.0),
        drawn[1]: ("sample", 11.0),
        other: ("reported", 1.0),
        "U1.lower.A1": ("suspect", 1.0),
    }
    assert "1 suspect, and at 2 of 22 joints that passed" in found.describe_bias()
    given = {f"{k[1]}.{k[2]}.{k[3]}": joint.stands_for for k, joint in read_labels(tmp_path / "labels.csv").items()}
    assert given == {j.name: j.stands_for for j in found.labels}


def test_labels_of_suspects_alone_say_so(store: Store) -> None:
    assert collect_decision_labels(store).describe_bias() == ""
    decide(store, "U1.lower.A1", "DefectRejected")
    assert "no joint of a sample" in collect_decision_labels(store).describe_bias()


def test_a_label_belongs_to_its_inspection(store: Store) -> None:
    second = again(BOARD)
    store.write(second)
    decide(store, "U1.lower.A2", "DefectConfirmed")
    decide(store, "U1.lower.A2", "DefectRejected", record=second.board.record, minute=5)
    found = collect_decision_labels(store).labels
    assert [(j.label, j.inspected_at) for j in found] == [
        ("open", BOARD.board.inspected_at),
        ("good", second.board.inspected_at),
    ]


def test_the_file_is_one_that_training_reads(store: Store, tmp_path: Path) -> None:
    decide(store, "U1.lower.A1", "DefectConfirmed")
    write_decision_labels(collect_decision_labels(store), tmp_path / "labels.csv")
    (key,) = labels = read_labels(tmp_path / "labels.csv")
    assert key == ("B 1", "U1", "lower", "A1")
    assert (labels[key].label, labels[key].labelled_by, labels[key].note) == ("bridged", "Ada", "seen in slice 3")
    assert (labels[key].source, labels[key].inspected_at) == ("verification", BOARD.board.inspected_at)


def test_no_cell_of_the_file_is_a_formula_and_training_reads_what_was_meant(tmp_path: Path) -> None:
    board = make_inspection("=1+1", defects={"U1.lower.A1": "bridged"})
    with open_store(tmp_path / "records.db") as store:
        store.write(board)
        at = "2026-03-02T12:00:00+01:00"
        who = ("Ada", at, None, "-see slice 3")
        store.add_decision(Decision(board.board.record, "U1", "lower", "A1", "DefectConfirmed", *who))
        write_decision_labels(collect_decision_labels(store), tmp_path / "labels.csv")
    cells = (tmp_path / "labels.csv").read_text().splitlines()[1].split(",")
    assert not [cell for cell in cells if cell.startswith(("=", "-"))]
    ((key, joint),) = read_labels(tmp_path / "labels.csv").items()
    assert (key[0], joint.note) == ("=1+1", "-see slice 3")


def test_decided_joints_of_a_board_become_samples(small_batch: Path, small_board: Path, tmp_path: Path) -> None:
    """The sample board's labels as decisions: the same joints are collected as from the file itself."""
    truth = read_labels(small_batch / "labels.csv")
    (small_batch / "labels.csv").unlink()
    inspection = make_inspection(small_board.name, side={"lower": 8, "upper": 8})
    decided = [key for key in truth if key[2] == "lower"][:6]
    with open_store(tmp_path / "records.db") as opened:
        opened.write(inspection)
        for key in decided:
            is_good = truth[key].label == "good"
            state = "DefectRejected" if is_good else "DefectMissed"
            opened.add_decision(
                Decision(
                    inspection.board.record,
                    *key[1:],
                    state,
                    "Ada",
                    "2026-03-02T12:00:00+01:00",
                    None if is_good else truth[key].label,
                )
            )
        found = collect_decision_labels(opened)
    folder = tmp_path / "model.labels"
    folder.mkdir()
    write_decision_labels(found, folder / "labels.csv")
    text = (folder / "labels.csv").read_text().replace(inspection.board.inspected_at, "")  # made by hand, of another time
    (folder / "labels.csv").write_text(text)
    samples = collect([small_batch, folder], tmp_path / "samples").samples
    assert len(samples) == len(decided)
