"""Pictures that are not what they claim, through the whole inspection with the released model.

They are refused, or nothing passes by them; and changes that should not matter turn no fail into a pass.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from inspect_pop.core.errors import InputFault
from inspect_pop.core.geometry import HeightMap, SliceStack
from inspect_pop.core.inspection import Inspection
from inspect_pop.ingest import open_export
from inspect_pop.ingest.contract import BoardExport, SliceSource
from tests.ingest.bounded import within_bounds

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
Picture = SliceStack | HeightMap
Values = np.ndarray


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    """The script that measures the same on many boards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts" / "studies"))
        return import_module("measure_changes")


@pytest.fixture(scope="module")
def model(measure: ModuleType) -> Path:
    return Path(measure.resolve(MODELS))


@pytest.fixture(scope="module")
def sample(measure: ModuleType) -> BoardExport:
    (board,) = (ROOT / "datasets/sample/boards").iterdir()
    export: BoardExport = measure.cache_images(open_export(board, board.parents[1]))
    return export


@pytest.fixture(scope="module")
def right(measure: ModuleType, model: Path, sample: BoardExport) -> Inspection:
    found: Inspection = measure.inspect_export(sample, model)
    assert {"pass", "fail"} <= set(found.joints["verdict"])
    return found


def noise(values: Values) -> Values:
    return np.random.default_rng(1).integers(0, 60_000, values.shape).astype(values.dtype)


def one_of_noise(values: Values) -> Values:
    return np.concatenate([values[:1], noise(values[1:2]), values[2:]])


def half_gone(values: Values, gone: float) -> Values:
    return np.where(np.arange(values.shape[-1]) < values.shape[-1] // 2, values.dtype.type(gone), values)


def nearly_all_gone(values: Values) -> Values:
    return np.where(np.random.default_rng(1).random(values.shape) < 0.95, np.nan, values).astype(np.float32)


def ramp(values: Values) -> Values:
    return np.broadcast_to(np.linspace(0, 60_000, values.shape[-1]), values.shape).astype(values.dtype)


SLICES: dict[str, Callable[[Values], Values]] = {
    "inverted against what is declared": lambda v: np.iinfo(v.dtype).max - v,
    "noise": noise,
    "one slice of noise": one_of_noise,
    "a ramp of grey": ramp,
    "two grey levels": lambda v: (v > np.median(v)).astype(v.dtype),
    "half of it saturated": lambda v: np.where(v >= np.median(v), np.iinfo(v.dtype).max, v).astype(v.dtype),
    "left half black": partial(half_gone, gone=0),
}
HEIGHTS: dict[str, Callable[[Values], Values]] = {
    "upside down": lambda v: -v,
    "in millimetres": lambda v: v / 1000,
    "5 mm too high": lambda v: v + 5000,
    "noise": lambda v: np.random.default_rng(1).uniform(0, 1500, v.shape).astype(np.float32),
    "mirrored": lambda v: v[:, :, ::-1],
    "turned by 180 degrees": lambda v: v[:, ::-1, ::-1],
    "half without data": partial(half_gone, gone=np.nan),
    "nearly all without data": nearly_all_gone,
}
BOTH: dict[str, Callable[[Values], Values]] = {
    "mirrored": lambda v: v[:, :, ::-1],
    "turned by 90 degrees": lambda v: np.rot90(v, axes=(1, 2)),
    "turned by 180 degrees": lambda v: v[:, ::-1, ::-1],
}
KINDS = [
    *((f"slices: {said}", SliceStack, change) for said, change in SLICES.items()),
    *((f"heights: {said}", HeightMap, change) for said, change in HEIGHTS.items()),
    *((f"all pictures: {said}", Picture, change) for said, change in BOTH.items()),
]


@pytest.mark.parametrize(("kind", "change"), [k[1:] for k in KINDS], ids=[k[0] for k in KINDS])
def test_a_false_picture_is_refused_or_nothing_passes_by_it(
    measure: ModuleType, model: Path, sample: BoardExport, kind: type, change: Callable[[Values], Values]
) -> None:
    def spoilt(picture: Picture) -> Picture:
        values = change(measure.values_of(picture)) if isinstance(picture, kind) else measure.values_of(picture)
        told: Picture = measure.with_values(picture, values)
        return told

    with within_bounds():
        passed = passed_by(measure, changed(sample, spoilt), model)
    assert passed == 0


@pytest.mark.parametrize("factor", [2.0, 1.08])
def test_pixels_of_another_size_than_told_are_refused(
    measure: ModuleType, model: Path, sample: BoardExport, factor: float
) -> None:
    def spoilt(picture: Picture) -> Picture:
        return replace(picture, grid=replace(picture.grid, pixel_um=factor * picture.grid.pixel_um))

    with within_bounds():
        assert passed_by(measure, changed(sample, spoilt), model) == 0


def test_slices_of_the_other_interface_are_refused(measure: ModuleType, model: Path, sample: BoardExport) -> None:
    lower, upper = sample.slices
    assert (lower.interface, upper.interface) == ("lower", "upper")

    def exchanged(source: SliceSource, other: SliceSource) -> SliceSource:
        return replace(source, read=lambda: replace(other.read(), interface=source.interface))

    export = replace(sample, images=(exchanged(lower, upper), exchanged(upper, lower), *sample.height_maps))
    assert passed_by(measure, export, model) == 0


@pytest.mark.parametrize(
    ("places", "lost", "passes"),
    [
        ((0, 1, 2, 3, 4), 1, False),
        ((0, 1, 2, 3, 4), 2, False),
        ((0, 2, 4), 0, False),
        ((0, 0.5, 1, 2, 3, 4), 4, False),
        ((0, 0.5, 1, 1.5, 2, 3, 4), 3, True),  # six are left
    ],
)
def test_a_slice_without_which_a_defect_may_look_good_lets_nothing_pass(
    measure: ModuleType, model: Path, sample: BoardExport, right: Inspection, places: tuple[float, ...], lost: int, passes: bool
) -> None:
    """Slices of the lower interface at these places among its five, between two of them as their mean; one holds nothing."""

    def spoilt(picture: Picture) -> Picture:
        if isinstance(picture, HeightMap) or picture.interface == "upper":
            return picture
        low, high = np.floor(places).astype(int), np.ceil(places).astype(int)
        values = ((picture.values[low].astype(np.float64) + picture.values[high]) / 2).astype(picture.values.dtype)
        values[lost] = 0
        z_um = np.asarray(picture.z_um)
        return replace(picture, values=values, z_um=tuple((z_um[low] + z_um[high]) / 2), lost=(lost,))

    verdict = lower(measure.inspect_export(changed(sample, spoilt), model))
    assert ("pass" in verdict) == passes
    assert "fail" in verdict
    assert (lower(right)[verdict == "fail"] != "pass").all()


def test_a_ball_whose_grey_is_at_the_end_of_the_scale_in_one_slice_is_no_pass(
    measure: ModuleType, model: Path, sample: BoardExport
) -> None:
    def spoilt(picture: Picture) -> Picture:
        if isinstance(picture, HeightMap) or picture.interface == "upper":
            return picture
        values = picture.values.copy()
        solder = np.quantile(values[2], 0.8 if picture.polarity == "solder_bright" else 0.2)
        burnt = values[2] > solder if picture.polarity == "solder_bright" else values[2] < solder
        values[2][burnt] = np.iinfo(values.dtype).max if picture.polarity == "solder_bright" else 0
        return replace(picture, values=values)

    assert "pass" not in lower(measure.inspect_export(changed(sample, spoilt), model))


def lower(found: Inspection) -> np.ndarray:
    """The verdicts of the lower interface."""
    verdict: np.ndarray = found.joints["verdict"][found.joints["interface"] == "lower"]
    return verdict


def test_a_change_that_should_not_matter_turns_no_fail_into_a_pass(
    measure: ModuleType, model: Path, sample: BoardExport, right: Inspection
) -> None:
    """And it changes next to nothing at all; `scripts/studies/measure_changes.py` tells the share on many boards."""
    for said, change in measure.CHANGES.items():
        counts = measure.compare_verdicts(right, sample, change, model)
        assert counts["fail>pass"] == 0, said
        most = 1 if said in measure.HARMLESS else 4
        assert counts["changed"] <= most or "holds nothing" in said, said
        assert counts["refused"] == 0, said


def test_a_change_that_matters_is_seen(measure: ModuleType, model: Path, sample: BoardExport, right: Inspection) -> None:
    """The comparison itself works: another board's pictures give other verdicts."""
    counts = measure.compare_verdicts(
        right,
        sample,
        lambda picture, _: (
            measure.with_values(picture, BOTH["mirrored"](picture.values)) if isinstance(picture, SliceStack) else picture
        ),
        model,
    )
    assert counts["changed"] > 5
    assert not measure.is_within_limit("inspected again", counts)


def changed(export: BoardExport, change: Callable[[Picture], Picture]) -> BoardExport:
    images = (replace(i, read=partial(_read, i.read, change)) for i in export.images)
    return replace(export, images=tuple(images))


def _read(read: Callable[[], Picture], change: Callable[[Picture], Picture]) -> Picture:
    return change(read())


def passed_by(measure: ModuleType, export: BoardExport, model: Path) -> int:
    """How many joints pass; none where the board is refused."""
    try:
        return int((measure.inspect_export(export, model).joints["verdict"] == "pass").sum())
    except InputFault:
        return 0
