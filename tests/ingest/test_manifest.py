"""export.json: what is right comes through exactly, what is wrong is told whole."""

import json
from copy import deepcopy
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_pop.ingest.document import FieldFault, HeightEntry, SliceEntry, parse_manifest
from tests.ingest.boards import manifest

TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=256)
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" \u200c\u200d"), min_size=1, max_size=128)
COORDINATE = st.floats(-1e6, 1e6) | st.integers(-1_000_000, 1_000_000)
PIXEL = st.floats(0.1, 1000) | st.integers(1, 1000) | st.lists(st.floats(20, 200), min_size=2, max_size=2)
TIME = st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.timezones()).filter(lambda t: t.year < 9999)
SLICES = st.fixed_dictionaries(
    {
        "kind": st.just("xray_slices"),
        "refdes": TEXT,
        "interface": st.sampled_from(["lower", "upper"]),
        "file": TEXT,
        "z_um": st.lists(COORDINATE, min_size=1, max_size=64, unique=True).map(sorted),
        "pixel_um": PIXEL,
        "origin_um": st.lists(COORDINATE, min_size=2, max_size=2),
        "polarity": st.sampled_from(["solder_bright", "solder_dark"]),
        "method": st.sampled_from(["laminography", "ct"]),
    },
    optional={"sha256": st.text("0123456789abcdefABCDEF", min_size=64, max_size=64) | st.none(), "exposure_ms": st.integers()},
)
HEIGHTS = st.fixed_dictionaries(
    {
        "kind": st.just("height_map"),
        "refdes": TEXT,
        "stage": st.sampled_from(["pre_stack", "post_reflow"]),
        "file": TEXT,
        "pixel_um": PIXEL,
        "origin_um": st.lists(COORDINATE, min_size=2, max_size=2),
    },
    optional={
        "scale_um": st.floats(1e-6, 1000),
        "offset_um": COORDINATE,
        "no_data": st.none() | st.integers(-(2**31), 2**32 - 1),
    },
)


def manifests() -> st.SearchStrategy[dict[str, Any]]:
    images = st.lists(
        SLICES | HEIGHTS, max_size=6, unique_by=(lambda i: (i["refdes"], i.get("interface", i.get("stage"))), lambda i: i["file"])
    )
    optional = {name: TEXT | st.none() for name in ("panel", "lot", "work_order", "operator")}
    return st.fixed_dictionaries(
        {
            "schema": st.just("pop-export/1"),
            "serial": PRINTABLE,
            "product": TEXT,
            "line": TEXT,
            "station": TEXT,
            "recipe": TEXT,
            "inspected_at": TIME.map(lambda t: t.isoformat()).filter(lambda t: len(t) <= 64),
            "images": images,
        },
        optional=optional | {"position": st.integers(0, 1_000_000) | st.none(), "weather": TEXT},
    )


@given(manifests())
def test_every_right_manifest_comes_through_exactly(document: dict[str, Any]) -> None:
    parsed = parse_manifest(json.loads(json.dumps(document)))
    assert parsed.problems == ()
    assert parsed.manifest is not None
    for name in ("serial", "product", "line", "station", "recipe", "inspected_at"):
        assert getattr(parsed.manifest, name) == document[name]
    for name in ("panel", "position", "lot", "work_order", "operator"):
        assert getattr(parsed.manifest, name) == document.get(name)
    assert len(parsed.images) == len(document["images"])
    for entry, image in zip(parsed.images, document["images"], strict=True):
        told = entry.model_dump()
        told["pixel_um"] = list(told["pixel_um"]) if isinstance(image["pixel_um"], list) else told["pixel_um"][0]
        assert {name: told[name] for name in image if name in told} == {name: image[name] for name in image if name in told}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, child in inner for place in places(child, (*at, key)))]


PLACES = places(manifest())[1:]


@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere_is_taken_or_told(place: tuple[Any, ...], value: Any) -> None:
    document = deepcopy(manifest())
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    parsed = parse_manifest(document)
    assert parsed.manifest is not None or parsed.problems
    assert all(problem.field and problem.expected and problem.found.isprintable() for problem in parsed.problems)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_what_is_left_out_is_told_or_optional(place: tuple[Any, ...]) -> None:
    document = deepcopy(manifest())
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    del holder[place[-1]]
    missing = [p.field for p in parse_manifest(document).problems if p.found == "nothing"]
    optional = {"panel", "position", "lot", "work_order", "operator", "scale_um", "offset_um", "no_data"}
    if isinstance(place[-1], str):
        assert bool(missing) == (place[-1] not in optional)
        assert all(field.endswith(place[-1]) for field in missing)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    document = manifest() | {"serial": 5, "line": None}
    document["images"][0]["z_um"] = "5,45"
    document["images"][2]["origin_um"] = [1.0]
    document["images"][3] = None
    parsed = parse_manifest(document)
    assert [p.field for p in parsed.problems] == ["serial", "line", "images[0].z_um", "images[2].origin_um", "images[3]"]
    assert parsed.manifest is None
    assert [entry.file for entry in parsed.images] == ["xray/U1_upper.tif"]
    assert parsed.index == (1,)


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-22T08:27:51+01:00",
        "2026-11-22T08:27:51Z",
        "2026-11-22 08:27:51.1234567-09:30",
        "20261122T082751+0100",
        "2026-11-22T08:27+00:00",
    ],
)
def test_times_are_kept_as_they_are_written(time: str) -> None:
    parsed = parse_manifest(manifest() | {"inspected_at": time})
    assert parsed.manifest is not None
    assert parsed.manifest.inspected_at == time


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-22",
        "2026-11-22T08:27:51",
        "22.11.2026 08:27:51",
        "2026-13-01T00:00:00Z",
        "",
        "1763796471",
        "now",
        "2026-11-22T25:00:00Z",
    ],
)
def test_what_is_no_time_with_an_offset_is_refused(time: str) -> None:
    (problem,) = parse_manifest(manifest() | {"inspected_at": time}).problems
    assert problem.field == "inspected_at"
    assert "a time" in problem.expected


@pytest.mark.parametrize("serial", [" ", " A ", "条码-7", "ŠŽ/..\\0", "a" * 128, "۴۵\u200c۶", "👩\u200d🔧", "=1+1"])
def test_serials_of_any_alphabet_are_kept_exactly(serial: str) -> None:
    parsed = parse_manifest(manifest() | {"serial": serial})
    assert parsed.manifest is not None
    assert parsed.manifest.serial == serial


@pytest.mark.parametrize("serial", ["", "a" * 129, "A\tB", "A\x7f", "A\u202eB", "A\u200bB", "\ufeffA", "A\ud800", "A\u2028"])
def test_serials_that_do_not_print_are_refused(serial: str) -> None:
    (problem,) = parse_manifest(manifest() | {"serial": serial}).problems
    assert problem.field == "serial"


def with_image(number: int, **changes: Any) -> dict[str, Any]:
    document = manifest()
    document["images"][number] |= changes
    return document


@pytest.mark.parametrize("n", [1, 2, 9, 64])
def test_one_to_64_slices(n: int) -> None:
    parsed = parse_manifest(with_image(0, z_um=[10.0 * k for k in range(n)]))
    assert parsed.problems == ()
    assert isinstance(parsed.images[0], SliceEntry)


@pytest.mark.parametrize(("given", "read"), [(12, (12.0, 12.0)), (12.5, (12.5, 12.5)), ([10.0, 12], (10.0, 12.0))])
def test_a_pixel_has_one_side_or_two(given: object, read: tuple[float, float]) -> None:
    (entry, *_) = parse_manifest(with_image(0, pixel_um=given)).images
    assert entry.pixel_um == read


@pytest.mark.parametrize("given", [[], [10.0], [10.0, 12.0, 14.0], [10.0, "12"], [10.0, True], [0.01, 10.0], [10.0, 101.0], {}])
def test_other_pixels_are_refused(given: object) -> None:
    (problem,) = parse_manifest(with_image(0, pixel_um=given)).problems
    assert problem.field == "images[0].pixel_um"


@pytest.mark.parametrize("method", ["laminography", "ct"])
@pytest.mark.parametrize("n", [0, 65])
def test_other_numbers_of_slices_are_refused(method: str, n: int) -> None:
    (problem,) = parse_manifest(with_image(0, z_um=[10.0 * k for k in range(n)], method=method)).problems
    assert problem == FieldFault("images[0].z_um", "1 to 64 values, one per slice", problem.found)


def test_a_transmission_picture_may_be_listed_for_both_interfaces() -> None:
    document = with_image(0, method="transmission", z_um=[85.0], file="xray/U1.tif")
    document["images"][1] |= {"method": "transmission", "z_um": [630.0], "file": "xray/U1.tif"}
    assert parse_manifest(document).problems == ()


def test_one_volume_may_be_listed_for_both_interfaces_where_its_heights_are_the_same() -> None:
    document = with_image(0, method="ct", z_um=[5.0, 300.0, 700.0], file="xray/U1.tif")
    document["images"][1] |= {"method": "ct", "z_um": [5.0, 300.0, 700.0], "file": "xray/U1.tif"}
    assert parse_manifest(document).problems == ()
    document["images"][1]["z_um"] = [6.0, 300.0, 700.0]
    assert [p.field for p in parse_manifest(document).problems] == ["images[1].file"]


def test_a_map_may_leave_out_scale_offset_and_no_data() -> None:
    document = manifest()
    for name in ("scale_um", "offset_um", "no_data"):
        del document["images"][2][name]
    entry = parse_manifest(document).images[2]
    assert isinstance(entry, HeightEntry)
    assert (entry.scale_um, entry.offset_um, entry.no_data) == (None, 0.0, None)


def test_more_images_than_any_board_has_are_refused() -> None:
    (problem, *_) = parse_manifest(manifest() | {"images": [manifest()["images"][0]] * 300}).problems
    assert problem.field == "images"
    assert problem.expected == "at most 256 items"
