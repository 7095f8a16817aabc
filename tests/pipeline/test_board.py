"""A whole board through all steps: a row for every expected joint, whatever the export lacks."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.classify.model import LearntPicture, OperatingPoint, load
from inspect_pop.classify.session import Classifier, Scores
from inspect_pop.core.columns import CLASSES, COLUMNS
from inspect_pop.core.errors import FrameFault
from inspect_pop.core.flags import bit
from inspect_pop.core.geometry import SliceStack
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.limits import Limits, load_limits
from inspect_pop.ingest import open_export
from inspect_pop.ingest.contract import BoardExport, SliceSource
from inspect_pop.pipeline.board import inspect_board, measure_board
from inspect_pop.segment.joints import find_overlapped
from tests.learn.models import add_machine_model, make_model
from tests.scenes import discs

START = "2026-11-22T08:00:00+00:00"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """Answers by the grey of the slices: good enough to walk the way, not to judge joints."""
    return Classifier(load(make_model(tmp_path_factory.mktemp("model") / "m")))


def _inspect(board: Path, classifier: Classifier, limits: Limits | None = None, *, read_ahead: bool = False) -> Inspection:
    limits = limits or Limits()
    return inspect_board(open_export(board), classifier, limits, started_at=START, read_ahead=read_ahead, now=lambda: START)


def _without(board: Path, *names: str) -> None:
    """Take images out of the manifest: not named is merely not there."""
    manifest = json.loads((board / "export.json").read_text())
    manifest["images"] = [i for i in manifest["images"] if i.get("interface", i.get("stage")) not in names]
    (board / "export.json").write_text(json.dumps(manifest))


def test_every_expected_joint_has_its_row(small_board: Path, classifier: Classifier) -> None:
    export = open_export(small_board)
    found = _inspect(small_board, classifier)
    expected = [(p.refdes, i.name, b) for p in export.recipe.packages for i in p.interfaces for b in i.ball]
    assert list(zip(found.joints["refdes"], found.joints["interface"], found.joints["ball"], strict=True)) == expected
    assert found.joints.names == tuple(c.name for c in COLUMNS)
    assert found.joints.probabilities().sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert found.board.n_joints == len(expected)
    assert sum(getattr(found.board, f"n_{c}") for c in CLASSES) + found.board.n_undecided == len(expected)
    assert found.board.missing == ()
    assert set(found.placements) == {"U1/lower", "U1/upper", "U1/pre_stack", "U1/post_reflow"}
    assert abs(found.packages[0].warpage_um) < 150
    assert found.packages[0].stack_height_um == pytest.approx(1350, abs=40)


def test_pictures_read_ahead_are_the_same_pictures(small_board: Path, classifier: Classifier) -> None:
    one, other = (_inspect(small_board, classifier, read_ahead=ahead) for ahead in (False, True))
    assert one.board == other.board
    assert one.packages == other.packages
    for name in one.joints.names:
        np.testing.assert_array_equal(one.joints[name], other.joints[name])


def test_a_machine_that_the_model_was_taught_on_has_its_own_network(small_board: Path, tmp_path: Path) -> None:
    """And the record says by which thresholds it was decided, and by which model."""
    own = {"weight": 5.0, "operating_point": {"pass_below": -9.0, "fail_above": 9.0, "source": "taught here"}}
    plain = make_model(tmp_path / "m")
    before = _inspect(small_board, Classifier(load(plain)))
    model = load(add_machine_model(plain, open_export(small_board).machine, **own))
    found = _inspect(small_board, Classifier(model))
    assert "taught here" in found.board.operating_point
    assert set(found.joints["model"]) == {model.digest}
    assert np.abs(found.joints["p_good"] - before.joints["p_good"]).max() > 0.01
    manifest = json.loads((small_board / "export.json").read_text())
    (small_board / "export.json").write_text(json.dumps(manifest | {"station": "ANOTHER"}))
    elsewhere = _inspect(small_board, Classifier(model))
    np.testing.assert_array_equal(elsewhere.joints["p_good"], before.joints["p_good"])
    assert elsewhere.board.operating_point == before.board.operating_point != found.board.operating_point


def test_the_same_export_is_the_same_record(small_board: Path, classifier: Classifier) -> None:
    first, second = _inspect(small_board, classifier), _inspect(small_board, classifier)
    assert first.board == second.board
    for name in first.joints.names:
        np.testing.assert_array_equal(first.joints[name], second.joints[name])


def test_by_xray_pictures_turned_against_the_height_maps_nothing_passes(small_board: Path, classifier: Classifier) -> None:
    """The array is symmetric and finds its place either way; which way round it lies, the domes tell."""

    def turned(source: SliceSource) -> SliceSource:
        stack = source.read()
        other = dataclasses.replace(stack, values=np.ascontiguousarray(stack.values[:, ::-1, ::-1]))
        return dataclasses.replace(source, read=lambda: other)

    export = open_export(small_board)
    wrong = dataclasses.replace(export, images=(*map(turned, export.slices), *export.height_maps))
    for board, expected in ((export, False), (wrong, True)):
        joints = inspect_board(board, classifier, Limits(), started_at=START, now=lambda: START).joints
        assert ((joints["flags"] & bit("crop_mismatch")) != 0).all() == expected
        assert ((joints["flags"] & bit("crop_mismatch")) != 0).any() == expected
        if expected:
            assert "pass" not in joints["verdict"]


# Kinds of defect, painted into the slices as discs at shares of the way from one joint to the next: how many, from where to
# where, their diameter in pitches, their grey (0 background, 1 solder), and the criterion that sees them.
_PAINTED = {
    "stray ball": (1, 0.5, 0.5, 0.32, 1.0, "stray_solder"),
    "bridge": (40, 0.0, 1.0, 0.5, 1.0, "clearance"),
    "void": (1, 0.0, 0.0, 0.42, 0.1, "void_area"),
    "missing ball": (1, 0.0, 0.0, 0.95, 0.0, "missing_ball"),
}


@pytest.mark.parametrize("kind", _PAINTED)
def test_painted_defects_do_not_pass(small_board: Path, classifier: Classifier, kind: str) -> None:
    """Even where the classifier passes everything, and by measure-only they do pass."""
    number, begin, end, width, grey, criterion = _PAINTED[kind]
    export = open_export(small_board)
    package = measure_board(export, Limits()).packages[0]
    part = package.interfaces[0]
    assert part.windows is not None
    interface, pitch_um = part.interface, part.interface.pitch_um
    x, y = interface.x_um, interface.y_um
    first = int(np.argmin(np.hypot(x - pitch_um / 2, y - pitch_um / 2)))
    second = int(np.argmin(np.hypot(x - x[first] - pitch_um, y - y[first])))
    share = np.linspace(begin, end, number)
    place_um = package.placements["lower"].apply(x[first] + share * (x[second] - x[first]), np.full(number, y[first]))
    levels = part.windows.background + grey * (part.windows.solder - part.windows.background)

    def paint(source: SliceSource) -> SliceSource:
        stack = source.read()
        if source.interface != "lower":
            return source
        values = stack.values.astype(np.float32)
        cover = discs(stack.grid, *place_um, width * pitch_um / 2)
        for page, level in zip(values, np.abs(levels), strict=True):
            page += cover * (level - page)
        painted = dataclasses.replace(stack, values=values.astype(stack.values.dtype))
        return dataclasses.replace(source, read=lambda: painted)

    wrong = dataclasses.replace(export, images=(*map(paint, export.slices), *export.height_maps))
    blind = classifier.with_operating_point(OperatingPoint(pass_below=1e6, fail_above=1e7, source="passes everything"))
    for profile, verdicts in (("ipc-a-610", {"review", "fail"}), ("measure-only", {"pass"})):
        limits = load_limits(None, profile)
        found = inspect_board(wrong, blind, limits, started_at=START, now=lambda: START)
        joints = found.joints.take(found.joints["interface"] == "lower")
        assert found.board.profile == profile
        assert joints["verdict"][first] in verdicts
        assert (criterion in joints["criteria"][first].split(";")) == (profile == "ipc-a-610")
        assert bool(joints["reason"][first]) == (profile == "ipc-a-610")
        assert "U1/lower" in found.board.stray_solder  # the board has a bridge, whose web is listed


def test_a_joint_without_data_is_in_doubt_and_no_other(small_board: Path, classifier: Classifier) -> None:
    """A scan that saw a circle, or a dead pixel: NaN is no data there."""
    export = open_export(small_board)
    lower = next(i for i in export.recipe.packages[0].interfaces if i.name == "lower")
    corner = int(np.argmax(lower.x_um + lower.y_um))

    def holed(source: SliceSource) -> SliceSource:
        stack = source.read()
        values = stack.values.astype(np.float32)
        row, col = (int(v[corner]) for v in stack.grid.to_pixel(lower.x_um, lower.y_um))
        values[:, : row + 1, col:] = np.nan
        return dataclasses.replace(source, read=lambda: dataclasses.replace(stack, values=values))

    board = dataclasses.replace(export, images=(*map(holed, export.slices), *export.height_maps))
    before, after = (inspect_board(b, classifier, Limits(), started_at=START, now=lambda: START).joints for b in (export, board))
    unscanned = (after["flags"] & bit("unscanned")) != 0
    touched = int(np.flatnonzero((after["interface"] == "lower") & (after["ball"] == lower.ball[corner]))[0])
    assert unscanned[touched]
    assert 0 < unscanned.sum() <= 0.2 * len(unscanned)
    assert set(after["verdict"][unscanned]) == {"review"}
    assert all("no data" in reason for reason in after["reason"][unscanned])
    np.testing.assert_array_equal(before["verdict"][~unscanned], after["verdict"][~unscanned])


def _restack(board: Path, change: Callable[[SliceStack], SliceStack]) -> BoardExport:
    """The board's export with each stack of slices changed."""
    export = open_export(board)

    def changed(source: SliceSource) -> SliceSource:
        stack = change(source.read())
        return dataclasses.replace(source, read=lambda: stack)

    return dataclasses.replace(export, images=(*map(changed, export.slices), *export.height_maps))


class _Sure(Classifier):
    """Calls every joint by one class, surely."""

    called = "good"

    def classify(self, inputs: JointInputs) -> Scores:
        n = len(inputs.images)
        p = np.full((n, len(CLASSES)), 0.001, dtype=np.float32)
        p[:, CLASSES.index(self.called)] = 0.996
        return Scores(p, np.full(n, -9 if self.called == "good" else 9, np.float32), np.zeros(n, np.float32))


def _sure(classifier: Classifier, called: str, *pictures: LearntPicture) -> Classifier:
    sure = _Sure(dataclasses.replace(classifier.model, card=classifier.model.card.model_copy(update={"pictures": pictures})))
    sure.called = called
    return sure


def test_a_picture_unlike_all_that_were_learnt_passes_nothing_unless_the_limit_lets_it(
    small_board: Path, classifier: Classifier
) -> None:
    """The record says in what; a picture within the ranges of one machine is known, and so is one on another grey scale."""
    known, other = (
        LearntPicture(machine=name, method="laminography", source="a test", low={"sharpness": low}, high={"sharpness": high})
        for name, low, high in (("A/1", 0.0, 2.0), ("A/2", 4.0, 5.0))
    )
    found = _inspect(small_board, _sure(classifier, "good", known, other))
    assert (found.joints["verdict"] == "pass").mean() > 0.9
    assert found.board.unlike == ""
    assert set(json.loads(found.board.pictures)) == {"U1/lower", "U1/upper"}
    told = _inspect(small_board, _sure(classifier, "good", other), Limits(unlike_forbids=0.0))
    assert (told.joints["verdict"] == "pass").mean() > 0.9
    grey = known.model_copy(update={"low": {"levels": 1e7}, "high": {"levels": 1e8}})
    stretched = _inspect(small_board, _sure(classifier, "good", grey))
    assert (stretched.joints["verdict"] == "pass").mean() > 0.9
    assert "levels" in stretched.board.unlike
    strange = _inspect(small_board, _sure(classifier, "good", other))
    assert told.board.unlike == strange.board.unlike
    assert set(strange.joints["verdict"]) == {"review"}
    assert (strange.joints["flags"] & bit("unfamiliar") != 0).all()
    assert re.fullmatch(r"U1/lower: sharpness 0\.\d+ of learnt 4 to 5; U1/upper: .*", strange.board.unlike)


def test_a_joint_called_starved_of_full_volume_goes_to_review(small_board: Path, classifier: Classifier) -> None:
    found = _inspect(small_board, _sure(classifier, "starved")).joints
    doubtful = found["volume_ratio"] >= 0.64
    assert doubtful.mean() > 0.5
    assert set(found["verdict"][doubtful & (found["criteria"] == "")]) == {"review"}


def test_joints_that_another_interface_lies_over_are_flagged_in_one_picture(small_board: Path, classifier: Classifier) -> None:
    manifest = json.loads((small_board / "export.json").read_text())
    for image in manifest["images"]:
        if image["kind"] == "xray_slices":
            pages = tifffile.imread(small_board / image["file"])[2:3]
            tifffile.imwrite(small_board / image["file"], pages)
            image |= {"z_um": image["z_um"][2:3], "method": "transmission"}
            image.pop("sha256", None)
    (small_board / "export.json").write_text(json.dumps(manifest))
    package = open_export(small_board).recipe.packages[0]
    expected = np.concatenate([find_overlapped(interface, package) for interface in package.interfaces])
    found = _inspect(small_board, classifier).joints
    assert expected.any()
    np.testing.assert_array_equal(found["flags"] & bit("overlapped") != 0, expected)


@pytest.mark.parametrize("method", ["laminography", "ct"])
@pytest.mark.parametrize("pages", [(2,), (1, 3)])
def test_by_fewer_than_three_slices_nothing_passes(
    small_board: Path, classifier: Classifier, pages: tuple[int, ...], method: str
) -> None:
    """The shape per slice is unknown, as in transmission, and nothing else says so."""

    def thin(stack: SliceStack) -> SliceStack:
        z_um = tuple(stack.z_um[k] for k in pages)
        return dataclasses.replace(stack, values=stack.values[list(pages)], z_um=z_um, method=method)

    found = inspect_board(_restack(small_board, thin), classifier, Limits(), started_at=START, now=lambda: START)
    assert ((found.joints["flags"] & bit("few_slices")) != 0).all()
    assert "pass" not in set(found.joints["verdict"])
    if len(pages) > 1:  # by one alone, this model calls no joint good
        assert any("fewer than three slices" in reason for reason in found.joints["reason"])


def test_many_thin_slices_measure_as_few_do(small_board: Path) -> None:
    """A CT volume of 61 slices around the joints, most of them beyond the pads; each with noise as any exposure has."""
    rng = np.random.default_rng(7)

    def cut(stack: SliceStack) -> SliceStack:
        z_um = np.linspace(stack.z_um[0] - 120, stack.z_um[-1] + 120, 61)
        values = np.empty((61, *stack.grid.shape), np.float32)
        for k, z in enumerate(z_um):
            at = float(np.interp(z, stack.z_um, range(len(stack.z_um))))
            low = min(int(at), len(stack.z_um) - 2)
            values[k] = (1 - at + low) * stack.values[low] + (at - low) * stack.values[low + 1]
            if not stack.z_um[0] <= z <= stack.z_um[-1]:
                values[k] = np.median(values[k])
        values += rng.normal(0, 0.01 * np.ptp(values), values.shape).astype(np.float32)
        return dataclasses.replace(stack, values=values, z_um=tuple(z_um), method="ct")

    before = measure_board(open_export(small_board), Limits())
    after = measure_board(_restack(small_board, cut), Limits())
    for one, other in zip(before.packages[0].interfaces, after.packages[0].interfaces, strict=True):
        assert other.windows is not None and len(other.windows.z_um) <= 9
        for name, within in (("x_um", 8.0), ("diameter_um", 20.0), ("volume_ratio", 0.25)):
            assert np.nanmedian(np.abs(one.columns[name] - other.columns[name])) < within, name
        assert not (other.columns["flags"] & bit("critical_slice_missing")).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_pixels_that_are_not_square_measure_as_square_ones_do(small_board: Path, axis: int) -> None:
    """Two rows, or two columns, averaged to one: pixels twice as long as wide, at the place between the two."""
    manifest = json.loads((small_board / "export.json").read_text())
    before = measure_board(open_export(small_board), Limits())
    for image in manifest["images"]:
        file, side_um = small_board / image["file"], image["pixel_um"]
        pages = np.atleast_3d(tifffile.imread(file)) if image["kind"] == "height_map" else tifffile.imread(file)
        pages = np.moveaxis(pages, -1, 0) if image["kind"] == "height_map" else pages
        cut = np.moveaxis(pages, axis + 1, 1)[:, : pages.shape[axis + 1] // 2 * 2]
        pairs = np.moveaxis(cut.reshape(len(cut), -1, 2, cut.shape[2]).astype(np.float64).mean(axis=2), 1, axis + 1)
        with tifffile.TiffWriter(file) as writer:
            for page in pairs:
                writer.write(page.astype(pages.dtype), photometric="minisblack", contiguous=False)
        image["pixel_um"] = [side_um, 2 * side_um] if axis == 0 else [2 * side_um, side_um]
        image["origin_um"][1 - axis] += side_um / 2 * (1 if axis else -1)
        image.pop("sha256", None)
    (small_board / "export.json").write_text(json.dumps(manifest))
    after = measure_board(open_export(small_board), Limits())
    assert before.packages[0].after is not None and after.packages[0].after is not None
    assert after.packages[0].after.height_um == pytest.approx(before.packages[0].after.height_um, abs=3)
    for one, other in zip(before.packages[0].interfaces, after.packages[0].interfaces, strict=True):
        for name, within in (("x_um", 3.0), ("y_um", 3.0), ("diameter_um", 6.0), ("volume_ratio", 0.05)):
            assert np.nanmedian(np.abs(one.columns[name] - other.columns[name])) < within, name


def test_an_interface_without_slices_is_undecided(small_board: Path, classifier: Classifier) -> None:
    _without(small_board, "upper")
    found = _inspect(small_board, classifier)
    upper = found.joints.take(found.joints["interface"] == "upper")
    assert len(upper) == 28
    assert all(label is None for label in upper["label"])
    assert set(upper["verdict"]) == {"review"}
    assert (upper["flags"] & bit("no_slices")).all()
    assert np.isfinite(upper["standoff_um"]).all()  # the height map still tells the gap
    assert found.board.missing == ("U1/upper slices",)
    assert found.board.verdict != "pass"
    assert found.board.n_undecided == 28


def test_without_height_maps_the_slices_decide(small_board: Path, classifier: Classifier) -> None:
    _without(small_board, "pre_stack", "post_reflow")
    found = _inspect(small_board, classifier)
    assert all(label in CLASSES for label in found.joints["label"])
    assert np.isnan(found.joints["standoff_um"]).all()
    assert (found.joints["flags"] & bit("no_height")).all()
    assert np.isnan(found.packages[0].warpage_um)
    assert found.board.missing == ("U1/pre_stack height map", "U1/post_reflow height map")


def test_an_unknown_standoff_is_flagged(small_board: Path, classifier: Classifier) -> None:
    """The recipe's stack is 250 um lower than the map's: what follows of the gaps is impossible."""
    recipe = next((small_board.parents[1] / "recipes").glob("*.json"))
    document = json.loads(recipe.read_text())
    document["packages"][0]["stack_height_um"] -= 250
    recipe.write_text(json.dumps(document))
    found = _inspect(small_board, classifier)
    assert np.isnan(found.joints["standoff_um"]).all()
    assert (found.joints["flags"] & bit("standoff_unknown")).all()
    assert set(found.joints["label"]) <= {*CLASSES}


def test_a_bga_lacks_nothing(small_board: Path, classifier: Classifier) -> None:
    _without(small_board, "upper", "pre_stack")
    recipe = next((small_board.parents[1] / "recipes").glob("*.json"))
    document = json.loads(recipe.read_text())
    (package,) = document["packages"]
    package["construction"] = "bga"
    package["interfaces"] = [i for i in package["interfaces"] if i["name"] == "lower"]
    recipe.write_text(json.dumps(document))
    found = _inspect(small_board, classifier)
    assert found.board.missing == ()
    assert found.board.n_joints == 60
    assert found.board.dpmo == pytest.approx(1e6 * sum(found.joints["label"] != "good") / 62)


def test_without_any_picture_nothing_passes(small_board: Path, classifier: Classifier) -> None:
    _without(small_board, "lower", "upper", "pre_stack", "post_reflow")
    found = _inspect(small_board, classifier)
    assert found.board.verdict == "review"
    assert set(found.joints["verdict"]) == {"review"}
    assert found.crops is None


def test_a_package_that_is_not_there_is_refused(small_board: Path, classifier: Classifier) -> None:
    manifest = json.loads((small_board / "export.json").read_text())
    for image in manifest["images"]:
        image["origin_um"] = [40_000.0, 40_000.0]
    (small_board / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(FrameFault):
        _inspect(small_board, classifier)


def test_suspects_come_with_pictures_and_a_neighbour(small_board: Path, classifier: Classifier) -> None:
    found = _inspect(small_board, classifier)
    crops = found.crops
    suspects = int((found.joints["verdict"] != "pass").sum())
    assert crops is not None
    assert crops.pixels.dtype == np.uint8
    assert len(crops.row) == len(crops.pixels) == len(crops.reference)
    assert (crops.reference >= 0).sum() <= suspects
    for row, reference in zip(crops.row, crops.reference, strict=True):
        if reference >= 0:
            assert found.joints["verdict"][reference] == "pass"
            assert found.joints["interface"][reference] == found.joints["interface"][row]
            assert reference in crops.row


def test_all_steps_are_timed(small_board: Path, classifier: Classifier) -> None:
    times = _inspect(small_board, classifier).timings_ms
    assert {"read", "align", "cut", "measure", "inputs", "classify", "decide", "causes", "pictures"} <= set(times)
