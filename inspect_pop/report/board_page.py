"""The page of one board: verdict, ball maps, height maps, a card per suspect joint, and what the record was made with.

A card shows the joint's slices above those of a good neighbour, and its main figures among those of its nearest passing
neighbours.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from inspect_pop.core.classes import CLASSES, GOOD, JOINT_CLASSES
from inspect_pop.core.columns import JointTable
from inspect_pop.core.flags import FLAGS
from inspect_pop.core.inspection import Crops, Inspection, PackageRecord
from inspect_pop.core.recipe import Package, Recipe
from inspect_pop.core.robust import MAD_TO_SIGMA, nan_median
from inspect_pop.core.text import pluralize
from inspect_pop.report.maps import BallMap, HeightPicture, draw_height_picture, find_places_um, make_ball_map, render_markers
from inspect_pop.report.page import DISPLAYS, encode_jpeg_url, format_number, render, to_plain, to_words

__all__ = [
    "STRIP_WIDTH",
    "ContactSheet",
    "JointCard",
    "JointCounts",
    "Strip",
    "choose_suspects",
    "count_joints",
    "find_neighbours",
    "make_cards",
    "make_contact_sheet",
    "make_strips",
    "render_board_page",
    "render_strips",
]

_MOST_CARDS = 160
# A page stays under 3 MB: the sheet takes at most this, the maps and their figures need the rest.
_SHEET_BYTES = 1_700_000
_ACROSS = 4  # joints side by side: browsers crop pictures that are much longer than wide
_NEIGHBOURS = 24
_ENOUGH = 8  # measured neighbours, for their scatter to mean something
STRIP_WIDTH = 120
_BETWEEN = "\x1f"  # a unit separator, which no figure holds


@dataclass(frozen=True)
class ContactSheet:
    """The slices of all joints that a page shows, as one picture: one picture per joint would take twice the time.

    A joint takes `channels` squares of `size` samples side by side, from the lower pad to the upper.

    Attributes:
        url: The picture as a `data:` URL; empty without joints.
        places: The place of each row of the joint table that is on the sheet, counted row by row of the sheet.
        references: The row of the good joint that a row is compared with; it is on the sheet, too.
        channels, size: The number of slices per joint, and their side in samples.
    """

    url: str
    places: dict[int, int]
    references: dict[int, int]
    channels: int
    size: int

    @property
    def width(self) -> int:
        """Width of the whole sheet, in samples."""
        return min(_ACROSS, len(self.places)) * self.channels * self.size

    @property
    def height(self) -> int:
        """Height of the whole sheet, in samples."""
        return math.ceil(len(self.places) / _ACROSS) * self.size

    def at(self, row: int) -> tuple[int, int]:
        """Return where the slices of a row begin on the sheet: x, y in samples."""
        down, across = divmod(self.places[row], _ACROSS)
        return across * self.channels * self.size, down * self.size


def make_contact_sheet(crops: Crops | None, rows: Sequence[int], budget: int = _SHEET_BYTES) -> ContactSheet:
    """Make the sheet of some rows of the joint table and of their references.

    Args:
        crops: The pictures of joints; None for a board without slices.
        rows: The rows, most important first: where not all fit the budget, the first ones are on the sheet.
        budget: The most bytes that the picture's URL may take.
    """
    empty = ContactSheet("", {}, {}, 0, 0)
    if crops is None:
        return empty
    crop = {int(row): k for k, row in enumerate(crops.row)}
    channels, size = crops.pixels.shape[1:3]
    shown = [row for row in rows if row in crop]
    while shown:
        references = {row: r for row in shown if (r := int(crops.reference[crop[row]])) in crop}
        on_sheet = list(dict.fromkeys(r for row in shown for r in (row, references.get(row, row))))
        across, down = min(_ACROSS, len(on_sheet)), math.ceil(len(on_sheet) / _ACROSS)
        cells = np.zeros((down * across, channels, size, size), np.uint8)  # black where the last line is not full
        cells[: len(on_sheet)] = crops.pixels[[crop[row] for row in on_sheet]]
        picture = cells.reshape(down, across, channels, size, size).transpose(0, 3, 1, 2, 4)
        url = encode_jpeg_url(np.ascontiguousarray(picture.reshape(down * size, across * channels * size)))
        if len(url) <= budget:
            return ContactSheet(url, {row: k for k, row in enumerate(on_sheet)}, references, channels, size)
        shown = shown[: min(len(shown) - 1, int(len(shown) * budget / len(url)))]
    return empty


class Strip(NamedTuple):
    """One figure of a joint among its nearest passing neighbours, on a line `STRIP_WIDTH` long.

    `ticks` is an SVG path with a tick per neighbour, `at` the joint's place on the line (None where it was not measured),
    `sigma` its distance from the neighbours' median in robust standard deviations.
    """

    words: str
    value: str
    ticks: str
    at: float | None
    low: str
    high: str
    sigma: str


def make_strips(joints: JointTable, rows: Sequence[int], place_um: NDArray[np.float64]) -> list[tuple[Strip, ...]]:
    """Make the strips of some rows of the joint table: the main figures among the nearest passing neighbours'.

    A figure that neither the joint nor any neighbour has is left out. `sigma` is the distance from the neighbours' median
    over 1.4826 times their median absolute deviation, which is the standard deviation of a normal distribution.

    Args:
        joints: The joint table, n rows.
        rows: The rows that get strips.
        place_um: (n, 2) designed places of all joints, um.
    """
    displays = {name: d for name, d in DISPLAYS.items() if d.strip and name in joints}
    if not rows:
        return []
    values = np.array([joints[name] for name in displays], np.float64).reshape(len(displays), len(joints))
    near = find_neighbours(joints, np.asarray(rows), place_um)
    # (measures, rows, neighbours); where a joint has fewer neighbours than others, NaN stands for the rest.
    others = np.where(near >= 0, values[:, np.maximum(near, 0)], np.nan)
    value = values[:, list(rows)]
    middle = nan_median(others)
    spread = MAD_TO_SIGMA * nan_median(np.abs(others - middle[:, :, None]))
    enough = (np.isfinite(others).sum(axis=2) >= _ENOUGH) & (spread > 0)
    sigma = np.where(enough, (value - middle) / np.where(spread > 0, spread, 1.0), np.nan)
    both = np.concatenate([others, value[:, :, None]], axis=2)
    low, high = np.fmin.reduce(both, axis=2), np.fmax.reduce(both, axis=2)
    margin = 0.05 * np.where(high > low, high - low, 1.0)
    low, high = low - margin, high + margin
    place = np.rint((both - low[:, :, None]) / (high - low)[:, :, None] * STRIP_WIDTH)
    place = np.where(np.isfinite(place), place, -1).astype(np.int64)  # places lie within the line, in its middle nine tenths

    strips: list[list[Strip]] = [[] for _ in rows]
    for display, *columns in zip(displays.values(), *(a.tolist() for a in (value, low, high, sigma, place)), strict=True):
        for strips_of_row, v, lowest, highest, s, (*ticks, at) in zip(strips, *columns, strict=True):
            known = sorted({x for x in ticks if x >= 0})
            if at < 0 and not known:
                continue
            strips_of_row.append(
                Strip(
                    words=display.short,
                    value=format_number(v, display.decimals, display.unit, display.signed),
                    ticks="".join([f"M{x} 4v8" for x in known]),
                    at=at if at >= 0 else None,
                    low=format_number(lowest, display.decimals),
                    high=format_number(highest, display.decimals),
                    sigma=format_number(s, 1, "σ", signed=True) if math.isfinite(s) else "",
                )
            )
    return [tuple(strips_of_row) for strips_of_row in strips]


def find_neighbours(joints: JointTable, rows: NDArray[np.int64], place_um: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearest joints that passed in the same interface.

    Args:
        joints: The joint table, n rows.
        rows: (k,) int64, the rows whose neighbours are wanted.
        place_um: (n, 2) designed places of all joints, um.

    Returns:
        (k, 24) int64 rows of the table, in any order; -1 where there are fewer than 24.
    """
    numbers: dict[tuple[str, str], int] = {}
    keys = zip(joints["refdes"], joints["interface"], strict=True)
    interface = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    passed = joints["verdict"] == "pass"
    near = np.full((len(rows), _NEIGHBOURS), -1, np.int64)
    for number in np.unique(interface[rows]):
        wanted, candidates = np.flatnonzero(interface[rows] == number), np.flatnonzero(passed & (interface == number))
        away = np.hypot(*(place_um[rows[wanted], None] - place_um[None, candidates]).transpose(2, 0, 1))
        if len(candidates) > _NEIGHBOURS:
            near[wanted] = candidates[np.argpartition(away, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]]
        else:
            near[wanted, : len(candidates)] = candidates
    return near


def render_strips(strips: Sequence[Strip]) -> Markup:
    """Render strips as rows of a table. A template's loop over hundreds of them would take a tenth of a page's time."""
    rows = []
    for strip in strips:
        texts = _BETWEEN.join((strip.words, strip.value, strip.sigma, strip.low, strip.high))
        words, value, sigma, low, high = str(escape(texts)).split(_BETWEEN)  # in one call: a call costs more than its work
        this = ""
        if strip.at is not None:
            this = f'<path class="this" d="M{strip.at} 8m-4 -6h8l-4 6z"/><path class="this" d="M{strip.at} 8v6"/>'
        description = f"{words}: this joint {value}, neighbours and joint from {low} to {high}"
        rows.append(
            f'<tr><th scope="row">{words}</th><td class="n">{value}</td><td class="n sigma">{sigma}</td>\n'
            f'<td><svg class="strip" viewBox="-4 0 128 16" role="img" aria-label="{description}">'
            f'<path class="base" d="M0 8H120"/><path class="ticks" d="{strip.ticks}"/>{this}</svg></td></tr>'
        )
    return Markup("\n".join(rows))  # noqa: S704 (every text is escaped, the rest are numbers)


@dataclass(frozen=True)
class JointCard:
    """The card of one suspect joint.

    Attributes:
        row: Its row in the joint table.
        refdes, interface, ball: The joint.
        label, kind: Its class, None where undecided, and the kind of its mark.
        p: The probability of its class, as text.
        verdict, reason, flags: Its verdict, the reason for a review, and what its flags mean.
        strips: Its main figures among its neighbours'.
        pictured: Whether its slices are on the contact sheet.
        reference, reference_ball: Row and ball of the good joint beside it on the sheet; None and empty without one.
    """

    row: int
    refdes: str
    interface: str
    ball: str
    label: str | None
    kind: str
    p: str
    verdict: str
    reason: str
    flags: tuple[str, ...]
    strips: tuple[Strip, ...]
    pictured: bool
    reference: int | None
    reference_ball: str


def choose_suspects(joints: JointTable, limit: int = _MOST_CARDS) -> tuple[list[int], int]:
    """Choose the suspect joints to show.

    The first of every class in every interface go first, failures before reviews, so that the limit hides no class.

    Returns:
        The chosen rows, failures before reviews and otherwise in the table's order, and how many suspect joints are left out.
    """
    rows = [int(r) for r in np.flatnonzero(joints["verdict"] != "pass")]
    seen: dict[tuple[str, str, str | None], int] = {}
    order = []
    for row in rows:
        key = (joints["refdes"][row], joints["interface"][row], joints["label"][row])
        order.append((joints["verdict"][row] != "fail", seen.setdefault(key, 0), row))
        seen[key] += 1
    chosen = sorted(order)[:limit]
    return [row for _, row in sorted((is_review, row) for is_review, _, row in chosen)], len(rows) - len(chosen)


def make_cards(joints: JointTable, rows: Sequence[int], sheet: ContactSheet, place_um: NDArray[np.float64]) -> list[JointCard]:
    """Make the cards of some rows of the joint table; `place_um` (n, 2) are the designed places of all joints, um."""
    cards = []
    for row, strips in zip(rows, make_strips(joints, rows, place_um), strict=True):
        label, flags = joints["label"][row], int(joints["flags"][row])
        reference = sheet.references.get(row)
        cards.append(
            JointCard(
                row=row,
                refdes=joints["refdes"][row],
                interface=joints["interface"][row],
                ball=joints["ball"][row],
                label=label,
                kind="undecided" if label is None or label == GOOD else label,
                p=format_number(float(joints[f"p_{label}"][row]), 3) if label in CLASSES else "–",
                verdict=joints["verdict"][row],
                reason=to_plain(joints["reason"][row]),
                flags=tuple(flag.meaning for flag in FLAGS if flags & flag.value),
                strips=strips,
                pictured=row in sheet.places,
                reference=reference,
                reference_ball="" if reference is None else joints["ball"][reference],
            )
        )
    return cards


@dataclass(frozen=True)
class JointCounts:
    """Joints by verdict; each joint counts once. `failed` is in order of falling counts, None is a failure without a class."""

    joints: int
    passed: int
    review: int
    failed: Mapping[str | None, int]

    @property
    def n_failed(self) -> int:
        """The number of joints that fail."""
        return sum(self.failed.values())


def count_joints(joints: JointTable) -> JointCounts:
    """Count joints by verdict, and those that fail by class, as the hook's answer does."""
    verdicts = Counter(joints["verdict"].tolist())
    failed = Counter(joints["label"][joints["verdict"] == "fail"].tolist())
    return JointCounts(len(joints), verdicts["pass"], verdicts["review"], dict(failed.most_common()))


@dataclass(frozen=True)
class PackageView:
    """What the page shows of one package; `counts` are those of its interfaces."""

    record: PackageRecord
    package: Package
    maps: tuple[BallMap, ...]
    heights: tuple[HeightPicture, ...]
    counts: Mapping[str, "JointCounts"]


@dataclass(frozen=True)
class SliceFrame:
    """What is drawn over the slices of an interface's joints: its number on the page, and the side of a slice in um."""

    number: int
    window_um: float


def render_board_page(inspection: Inspection, recipe: Recipe) -> str:
    """Render one self-contained HTML page, under 3 MB for any number of failed joints."""
    from inspect_pop.segment.windows import SAMPLES_PER_PITCH

    board, joints = inspection.board, inspection.joints
    counts = count_joints(joints)
    rows, left_out = choose_suspects(joints)
    sheet = make_contact_sheet(inspection.crops, rows)
    interfaces = [(p.refdes, i) for p in recipe.packages for i in p.interfaces]
    faulty = set(joints["refdes"][joints["verdict"] == "fail"].tolist())
    return render(
        "board.html",
        board=board,
        faulty_constructions=[p.construction for p in inspection.packages if p.refdes in faulty],
        headline=_describe_counts(counts),
        counts=counts,
        packages=_view_packages(inspection, recipe),
        cards=make_cards(joints, rows, sheet, find_places_um(joints, recipe)),
        render_markers=render_markers,
        render_strips=render_strips,
        left_out=left_out,
        without_pictures=sum(row not in sheet.places for row in rows),
        sheet=sheet,
        frames={
            (refdes, i.name): SliceFrame(k, sheet.size * i.pitch_um / SAMPLES_PER_PITCH)
            for k, (refdes, i) in enumerate(interfaces)
        },
        timings_ms=inspection.timings_ms,
        data=_collect_data(joints),
    )


def _describe_counts(counts: JointCounts) -> str:
    """Return the page's headline: how many joints fail, of which classes, and how many a person must look at."""
    joints = pluralize(counts.joints, "joint")
    if counts.n_failed:
        verb = "fails" if counts.n_failed == 1 else "fail"
        classes = ", ".join(f"{n} {to_words(label)}" for label, n in counts.failed.items())
        found = f"{counts.n_failed} of {joints} {verb}: {classes}"
    else:
        found = f"no joint fails, of {joints}" if counts.review else f"all {joints} pass"
    return f"{found}; {counts.review} for review" if counts.review else found


def _view_packages(inspection: Inspection, recipe: Recipe) -> list[PackageView]:
    records = {p.refdes: p for p in inspection.packages}
    views = []
    for package in recipe.packages:
        if package.refdes not in records:
            continue
        maps = tuple(make_ball_map(inspection.joints, package, i) for i in package.interfaces)
        pictures = (
            draw_height_picture(h, package, inspection.placements.get(f"{package.refdes}/{h.stage}"))
            for h in sorted(inspection.heights, key=lambda h: h.stage)  # after reflow first
            if h.refdes == package.refdes
        )
        of_package = inspection.joints.take(inspection.joints["refdes"] == package.refdes)
        counts = {i.name: count_joints(of_package.take(of_package["interface"] == i.name)) for i in package.interfaces}
        shown = tuple(p for p in pictures if p is not None)
        views.append(PackageView(records[package.refdes], package, maps, shown, counts))
    return views


def _collect_data(joints: JointTable) -> dict[str, Any]:
    """Return what the page's script needs to colour the maps and describe a joint: columns, null where not measured."""
    displays = {name: d for name, d in DISPLAYS.items() if name in joints and bool(np.isfinite(joints[name]).any())}
    values = {}
    for name, display in displays.items():
        rounded, known = np.round(joints[name].astype(float), display.decimals + 1), np.isfinite(joints[name])
        values[name] = [v if k else None for v, k in zip(rounded.tolist(), known.tolist(), strict=True)]
    return {
        **{name: list(joints[name]) for name in ("ball", "interface", "refdes", "label", "verdict")},
        "reason": [to_plain(reason) for reason in joints["reason"]],
        "words": {c.name: c.words for c in JOINT_CLASSES},
        "measures": [
            {"key": name, "words": d.words, "unit": d.unit, "decimals": d.decimals, "signed": d.signed}
            for name, d in displays.items()
        ],
        "values": values,
    }
