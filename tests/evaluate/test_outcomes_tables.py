from inspect_pop.evaluate.outcomes import HEAD, judge, row, table
from tests.evaluate.test_outcomes import make_outcomes


def test_a_row_holds_each_rate_with_its_exact_interval() -> None:
    figures = judge(make_outcomes())
    escape = figures["escape"]
    cells = [cell.strip() for cell in row("line X", figures).strip("|").split("|")]
    assert cells[:4] == ["line X", "8", "800", str(figures["defects"])]
    assert cells[4] == f"{100 * escape['rate']:.2f} % ({100 * escape['low']:.2f} to {100 * escape['high']:.2f})"
    assert cells[6].startswith(f"{figures['false_call_ppm']:.0f} (")
    assert cells[9] == f"{figures['calibration']['expected_error']:.4f}"


def test_what_a_group_does_not_know_is_a_dash() -> None:
    group = judge(make_outcomes())["by"]["machine"]["A/AXI-1"]
    cells = [cell.strip() for cell in row("A/AXI-1", group).strip("|").split("|")]
    assert cells[5] == cells[8] == cells[9] == "-" and cells[4] != "-"


def test_rates_of_nothing_are_a_dash() -> None:
    outcomes = make_outcomes()
    cells = [cell.strip() for cell in row("good ones", judge(outcomes.take(outcomes.truth == 0))).strip("|").split("|")]
    assert cells[4] == cells[5] == cells[8] == "-"


def test_a_table_has_as_many_columns_in_every_line() -> None:
    lines = table({"one": judge(make_outcomes())})
    assert lines[0] == HEAD
    assert len({line.count("|") for line in lines}) == 1
