from pathlib import Path

import numpy as np

from inspect_pop.evaluate.error_study import KINDS, group_cases, study
from inspect_pop.evaluate.evaluation import evaluate
from tests.learn.conftest import make_batch


def test_every_disagreement_is_a_case(batch: Path, stand_in: Path, tmp_path: Path) -> None:
    cases = study([batch], stand_in, page=tmp_path / "sub" / "study.html")
    figures = evaluate([batch], stand_in)
    counts = {kind: sum(c.kind == kind for c in cases) for kind in KINDS}
    assert counts["escape"] == figures["escapes"]
    assert counts["false call"] == figures["false_calls"]
    assert counts["defect for review"] + counts["good for review"] == figures["review"]["count"]
    assert [KINDS.index(c.kind) for c in cases] == sorted(KINDS.index(c.kind) for c in cases)
    page = (tmp_path / "sub" / "study.html").read_text()
    assert page.count("data:image/png") == min(300, len(cases))
    assert cases[0].joint in page and "http" not in page.split("</style>")[1].split("<script>")[0]


def test_pictures_show_the_joint_over_a_good_neighbour(batch: Path, stand_in: Path) -> None:
    case = study([batch / "boards" / "PB-1"], stand_in)[0]
    assert case.picture.dtype == np.uint8
    assert case.picture.shape == (48 + 2 + 48, 5 * 48 + 4 * 2)
    assert (case.picture[48:50] == 255).all() and (case.picture[:, 48:50] == 255).all()
    assert case.picture[:48, :48].std() > 5


def test_truth_of_a_simulator_makes_the_groups(tmp_path: Path, stand_in: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1"])
    rows = ["serial,refdes,interface,ball,variety,volume_ratio,web_um,gap_um"]
    for line in (batch / "labels.csv").read_text().splitlines()[1:]:
        key = line.split(",")[:4]
        rows.append(",".join([*key, "thin", "0.65", "25", ""]))
    (batch / "truth.csv").write_text("\n".join(rows))
    cases = study([batch], stand_in, reviews=False)
    assert {c.variety for c in cases} == {"thin"}
    assert {c.volume for c in cases} == {"0.64 to 0.667 of nominal"}
    assert {c.web for c in cases} == {"20 to 30 um"}
    assert {c.gap for c in cases} == {""}
    assert not any("review" in c.kind for c in cases)
    groups = group_cases(cases)
    assert "gap" not in groups
    assert sum(sum(n.values()) for _, n in groups["place"]) == len(cases)
    assert {g for g, _ in groups["place"]} <= {"corner", "edge", "inner"}
    sizes = [sum(n.values()) for _, n in groups["truth"]]
    assert sizes == sorted(sizes, reverse=True)
