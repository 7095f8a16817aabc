"""Service and hook judge alike: the station's setup lies with the store, and survives restarts."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.station.contract import JudgingOptions, Rules, StationSetup, locate_setup_file, read_setup, write_setup
from inspect_pop.station.hook import StandaloneOptions, run_hook
from inspect_pop.station.settings import ServiceSettings, check_same_rules, settle_settings
from tests.station.conftest import FACTORY
from tests.station.fakes import write_board


def leave(store: str, *, limits: str | None = None, model: str | None = None, **more: object) -> StationSetup:
    rules = {"model": "released", "limits": Path(limits).read_text() if limits else "", **more.pop("rules", {})}  # type: ignore[dict-item]
    setup = StationSetup(JudgingOptions(model=model, limits=limits), rules, **more)  # type: ignore[arg-type]
    write_setup(store, setup)
    return setup


def hook(tmp_path: Path, judging: JudgingOptions | None = None, **content: object) -> tuple[int, dict[str, object]]:
    board = write_board(tmp_path / "batch" / "boards" / "S", "S", **content)
    standalone = StandaloneOptions(None, judging or JudgingOptions(), FACTORY)
    return run_hook(str(board), str(tmp_path / "r.db"), 120, standalone=standalone)


def test_a_setup_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = str(tmp_path / "r.db")
    assert read_setup(store) is None
    setup = leave(store, roots=("/exports",), start_model="/m", start_digest="d")
    assert read_setup(store) == setup
    file = locate_setup_file(store)
    assert file is not None
    assert file.stat().st_mode & 0o027 == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other"}', '{"schema": "inspect-pop-station/1"}'])
def test_a_setup_that_cannot_be_read_is_no_reason_to_guess(tmp_path: Path, text: str) -> None:
    file = locate_setup_file(str(tmp_path / "r.db"))
    assert file is not None
    file.write_text(text)
    with pytest.raises(StoreFault):
        read_setup(str(tmp_path / "r.db"))
    status, answer = hook(tmp_path)
    assert (status, answer["verdict"]) == (3, "error")


def test_a_hook_without_the_service_judges_by_the_stations_limits(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("strict")
    leave(str(tmp_path / "r.db"), limits=str(tmp_path / "limits.toml"))
    status, answer = hook(tmp_path)
    assert (status, "strict" in str(answer["reason"])) == (3, True)


@pytest.mark.parametrize("rules", [{"model": "another"}, {"limits": "another"}, {"profile": "another"}, {"pass_below": 1.0}])
def test_a_hook_that_would_judge_otherwise_than_the_station_does_not(tmp_path: Path, rules: dict[str, object]) -> None:
    leave(str(tmp_path / "r.db"), rules=rules)
    status, answer = hook(tmp_path)
    assert (status, "station's" in str(answer["reason"])) == (3, True)


def test_options_that_come_out_as_the_stations_are_fine_and_others_are_not(tmp_path: Path) -> None:
    leave(str(tmp_path / "r.db"), rules={"profile": "mine"})
    assert hook(tmp_path, JudgingOptions(profile="mine"))[0] == 0
    assert hook(tmp_path, JudgingOptions(profile="other"))[0] == 3


def test_a_board_outside_the_stations_roots_is_not_inspected(tmp_path: Path) -> None:
    leave(str(tmp_path / "r.db"), roots=(str(tmp_path / "elsewhere"),))
    status, answer = hook(tmp_path)
    assert (status, "roots" in str(answer["reason"])) == (3, True)
    leave(str(tmp_path / "r.db"), roots=(str(tmp_path / "batch"),))
    assert hook(tmp_path)[0] == 0


def settings(tmp_path: Path, **more: object) -> ServiceSettings:
    options = {"roots": (tmp_path,), "store": str(tmp_path / "r.db"), "inspector_factory": FACTORY} | more
    return ServiceSettings(**options)  # type: ignore[arg-type]


def test_a_model_that_was_taken_by_request_survives_a_restart(tmp_path: Path) -> None:
    for name in ("first", "taken", "new"):
        (tmp_path / name).mkdir()
    wanted = settings(tmp_path, model=tmp_path / "first")
    settled, start = settle_settings(wanted)
    setup = StationSetup(settled.judging, {"model": "digest of taken"}, (), *start)
    write_setup(wanted.store, replace(setup, options=JudgingOptions(model=str(tmp_path / "taken"))))
    again, _ = settle_settings(wanted)
    assert (again.model, again.expect) == (tmp_path / "taken", {"model": "digest of taken"})
    other, _ = settle_settings(replace(wanted, model=tmp_path / "new"))
    assert (other.model, other.expect) == (tmp_path / "new", None)


def test_limits_are_copied_so_that_an_edit_counts_from_the_next_start_on(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("a")
    settled, _ = settle_settings(settings(tmp_path, limits=tmp_path / "limits.toml"))
    (tmp_path / "limits.toml").write_text("b")
    assert settled.limits is not None
    assert settled.limits.read_text() == "a"


def test_a_further_service_on_a_store_judges_alike_or_does_not_start(tmp_path: Path) -> None:
    leave(str(tmp_path / "r.db"))
    check_same_rules(str(tmp_path / "r.db"), {"model": "released"})
    with pytest.raises(UsageFault, match="another service's model"):
        check_same_rules(str(tmp_path / "r.db"), {"model": "other"})


def test_rules_name_what_differs() -> None:
    assert Rules("m", "l").find_difference({"model": "m"}) is None
    assert Rules("m", "l").find_difference({"model": "m", "limits": "x"}) == ("limits", "x", "l")


def test_an_odd_path_is_named_in_utf_8(tmp_path: Path) -> None:
    board = write_board(Path(os.fsdecode(os.fsencode(tmp_path) + b"/batch/boards/\xff")), "S", refuse="odd")
    status, answer = run_hook(str(board), str(tmp_path / "r.db"), 120, standalone=StandaloneOptions(inspector_factory=FACTORY))
    assert status == 3
    json.dumps(answer, ensure_ascii=False).encode()
