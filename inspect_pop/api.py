"""The public Python API: inspect boards, look at joints, segment pictures, simulate, and read a store.

    import inspect_pop as pop

    result = pop.Inspector().inspect("datasets/sample/boards/PB2411-010204")
    result.verdict
    result.to_pandas().query("verdict != 'pass'")
    result.joint("U1.lower.C4").show()

Everything here is also an attribute of `inspect_pop`, which imports it on first use. Errors are subclasses of `PopError`;
each names the thing, what was expected, what was found, and what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core import flags
from inspect_pop.core.classes import CLASSES, VERDICTS, joint_class
from inspect_pop.core.columns import JointTable, make_frame
from inspect_pop.core.errors import PopError, UsageFault
from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.core.limits import Limits, load_limits
from inspect_pop.core.system import utc_now
from inspect_pop.core.text import pluralize
from inspect_pop.ingest import BoardExport, find_exports, open_export
from inspect_pop.pipeline.board import MeasuredBoard, judge_board, measure_board
from inspect_pop.pipeline.record import find_passing_neighbour, scale_grey
from inspect_pop.recipes.from_image import read_picture
from inspect_pop.segment.balls import Balls, find_balls

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]

    from inspect_pop.report.maps import BallMap
    from inspect_pop.store import Store

__all__ = [
    "InspectionResult",
    "Inspector",
    "JointTable",
    "JointView",
    "Limits",
    "Picture",
    "PopError",
    "Segmentation",
    "compute_yield",
    "find_exports",
    "open_export",
    "open_store",
    "segment_picture",
    "simulate_boards",
]

_ZOOM, _CAPTION_PX, _GAP_PX = 3, 26, 2
_UNDECIDED = "#ffffff"


class Inspector:
    """Inspect boards with one model and one set of limits.

    The model is loaded once; use one inspector for many boards.

    Args:
        model: A model folder, or a folder of models with a current one. None: the current model of this installation.
        limits: Thresholds, as `Limits` or as a TOML file of them. None: the defaults.
        profile: The acceptance profile: `ipc-a-610` (the default), `measure-only`, or one of the limits file.
        device: `cpu`, or `cuda` with onnxruntime-gpu.
        threads: Threads of the classifier.

    Raises:
        ModelFault: The model is incomplete, changed, or of another version.
        LimitsFault: The limits file has an unknown key, or a value outside its range.

    Example:
        >>> inspector = Inspector()
        >>> inspector.inspect("datasets/sample/boards/PB2411-010204").verdict
        'fail'
    """

    def __init__(
        self,
        model: str | Path | None = None,
        limits: Limits | str | Path | None = None,
        *,
        profile: str | None = None,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        if isinstance(limits, Limits):
            if profile is not None:
                remedy = "Pass the profile in the limits, or no limits."
                raise UsageFault(f"profile {profile}", expected="limits from a file, or none", remedy=remedy)
            self.limits = limits
        else:
            self.limits = load_limits(None if limits is None else Path(limits), profile)
        self.classifier = Classifier(load(None if model is None else Path(model)), threads=threads, device=device)

    def __repr__(self) -> str:
        return f"<Inspector with model {self.classifier.model.card.name}>"

    def inspect(self, board: str | Path | BoardExport, root: str | Path | None = None) -> "InspectionResult":
        """Inspect one board.

        Args:
            board: The board's folder, or an export that `open_export` opened.
            root: The folder that all files of the board must lie in; by default two levels above the board's folder.

        Raises:
            InputFault: The board cannot be used; the error says why.
        """
        started_at = utc_now()
        export = board if isinstance(board, BoardExport) else open_export(board, root)
        measured = measure_board(export, self.limits)
        return InspectionResult(measured, judge_board(measured, self.classifier, self.limits, started_at=started_at))


class InspectionResult:
    """The inspection of one board: its verdict, its joints, its record, and the pictures of its joints.

    In a notebook it shows the board's ball maps. It keeps the slices of all joints in memory: some tens of MB per board.

    Attributes:
        joints: One row per expected joint, a `JointTable`.
        record: The yield record of the board: counts, FPY, DPMO, cause, disposition, digests.
        packages: One record per package: offset, warpage, cause, counts per interface.
        export: The export that was inspected.
        inspection: The same as the plain values that stores and pages take.
    """

    def __init__(self, measured: MeasuredBoard, inspection: Inspection) -> None:
        self._measured, self.inspection = measured, inspection
        self.joints: JointTable = inspection.joints
        self.record: BoardRecord = inspection.board
        self.packages: tuple[PackageRecord, ...] = inspection.packages
        self.export: BoardExport = measured.export

    @property
    def serial(self) -> str:
        """The board's serial."""
        return self.record.serial

    @property
    def verdict(self) -> str:
        """The board's verdict: `pass`, `fail` or `review`."""
        return self.record.verdict

    @property
    def suspects(self) -> tuple["JointView", ...]:
        """The joints that failed or are in review, in the order of the table."""
        return tuple(JointView(self, int(row)) for row in np.flatnonzero(self.joints["verdict"] != "pass"))

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the joints as a `pandas.DataFrame`, one row per joint. Raises `UsageFault` without pandas."""
        return self.joints.to_pandas()

    def joint(self, name: str) -> "JointView":
        """Return one joint by its name, `refdes.interface.ball`, such as `U1.lower.C4`. Raises `UsageFault` if unknown."""
        rows = np.flatnonzero(_name_joints(self.joints) == name)
        if len(rows) == 0:
            remedy = "Name it refdes.interface.ball, such as U1.lower.A1."
            raise UsageFault(
                f"joint {name}", expected=f"a joint of board {self.serial}", found="none of that name", remedy=remedy
            )
        return JointView(self, int(rows[0]))

    def __len__(self) -> int:
        return len(self.joints)

    def __repr__(self) -> str:
        return f"<InspectionResult {self.serial}: {self.verdict}; {_count_verdicts(self.joints)}>"

    def _repr_html_(self) -> str:
        from inspect_pop.report.maps import make_ball_map
        from inspect_pop.report.page import VERDICT_LOOKS

        maps = [make_ball_map(self.joints, package, i) for package in self.export.recipe.packages for i in package.interfaces]
        colour = VERDICT_LOOKS[self.verdict].colour
        badge = f'<span style="background:{colour};color:#fff;padding:2px 8px;border-radius:4px">{self.verdict}</span>'
        cause = f"; cause: {escape(self.record.cause.replace('_', ' '))}" if self.record.cause not in (None, "none") else ""
        head = f"<p><b>{escape(self.serial)}</b> {badge} {escape(_count_verdicts(self.joints))}{cause}</p>"
        return head + '<div style="display:flex;flex-wrap:wrap;gap:16px">' + "".join(map(_draw_map, maps)) + "</div>"


class JointView:
    """One joint of a result: its row of the table, its slices, and its nearest passing neighbour.

    In a notebook it shows its slices above those of the neighbour.

    Attributes:
        name: `refdes.interface.ball`, such as `U1.lower.C4`.
        row: Its row in the table of joints.
    """

    def __init__(self, result: InspectionResult, row: int) -> None:
        self._result, self.row = result, row
        self._values = result.joints[row]
        self.name = str(_name_joints(result.joints)[row])
        first = 0
        for part in (part for package in result._measured.packages for part in package.interfaces):
            if first <= row < first + len(part.interface.ball):
                self._part, self._number = part, row - first
            first += len(part.interface.ball)

    @property
    def label(self) -> str | None:
        """The class of the joint, such as `head_in_pillow`; None where undecided."""
        label: str | None = self._values["label"]
        return label

    @property
    def verdict(self) -> str:
        """`pass`, `fail` or `review`."""
        return str(self._values["verdict"])

    @property
    def reason(self) -> str:
        """Why the joint is in review; empty otherwise."""
        return str(self._values["reason"])

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the flags that are set, such as `slice_missing`."""
        return flags.names(int(self._values["flags"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the joint's row of the table, by column."""
        return dict(self._values)

    @property
    def slices(self) -> NDArray[np.float32] | None:
        """The joint's slices, (slices, size, size) float32, lowest first; None where no slices show the interface.

        Grey is normalised: 0 is the background, 1 the core of the interface's typical joint; solder is bright.
        """
        windows = self._part.windows
        return None if windows is None else windows.values[self._number]

    @property
    def neighbour(self) -> "JointView | None":
        """The nearest joint of the same interface that passed; None where none did."""
        interface, start = self._part.interface, self.row - self._number
        verdicts = self._result.joints["verdict"][start : start + len(interface.ball)]
        nearest = find_passing_neighbour(interface, verdicts, self._number)
        return None if nearest is None else JointView(self._result, start + nearest)

    def show(self) -> "Picture":
        """Return a picture of the joint's slices, lowest first, above those of its nearest passing neighbour.

        A notebook displays it. Elsewhere, use `show().save("joint.png")`.

        Raises:
            UsageFault: No slices show this joint.
        """
        slices = self.slices
        if slices is None:
            raise UsageFault(f"joint {self.name}", expected="X-ray slices of its interface", found="none in the export")
        strips = [_draw_strip(slices, f"{self.name}: {self.verdict}, {self.label or 'undecided'}")]
        neighbour = self.neighbour
        if neighbour is not None and neighbour.slices is not None:
            strips.append(_draw_strip(neighbour.slices, f"{neighbour.name}: {neighbour.verdict}"))
        return Picture(np.concatenate(strips))

    def __repr__(self) -> str:
        return f"<JointView {self.name}: {self.verdict}, {self.label or 'undecided'}{f' ({self.reason})' if self.reason else ''}>"

    def _repr_png_(self) -> bytes | None:
        return None if self.slices is None else self.show().to_png()


class Picture:
    """A picture that a notebook displays: `pixels` (rows, cols) grey or (rows, cols, 3) RGB, uint8."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def to_png(self) -> bytes:
        """Return the picture as the bytes of a PNG file."""
        bgr = self.pixels if self.pixels.ndim == 2 else self.pixels[..., ::-1]
        _, data = cv2.imencode(".png", bgr)
        return data.tobytes()

    def save(self, path: str | Path) -> None:
        """Write the picture as a PNG file. Raises `OSError`."""
        Path(path).write_bytes(self.to_png())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.pixels, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<Picture of {self.pixels.shape[1]} x {self.pixels.shape[0]} pixels>"

    def _repr_png_(self) -> bytes:
        return self.to_png()


class Segmentation:
    """Balls found in one picture, without a recipe.

    In a notebook it shows the picture with the outlines of the balls.

    Attributes:
        balls: The balls as arrays: `labels` (rows, cols) int32, 0 for background; and, each (n,), `row`, `col`,
            `diameter_px`, `roundness`, `grey`, `void_fraction`, `touching`.
        picture: The picture, (rows, cols).
    """

    def __init__(self, picture: NDArray[np.generic], balls: Balls) -> None:
        self.picture, self.balls = picture, balls

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label image (rows, cols): 0 is background, k the ball in row k - 1 of the table."""
        return self.balls.labels

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the measurements by name, each (n,)."""
        return {f.name: getattr(self.balls, f.name) for f in fields(self.balls) if f.name != "labels"}

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the measurements as a `pandas.DataFrame`, one row per ball. Raises `UsageFault` without pandas."""
        return make_frame(self.to_dict())

    def show(self) -> Picture:
        """Return the picture with the outline of each ball drawn on it."""
        values = self.picture.astype(np.float64)
        low, high = np.nanpercentile(values, [0.5, 99.5])
        grey = np.clip((values - low) / max(float(high - low), 1e-9) * 255, 0, 255)
        rgb = np.repeat(np.nan_to_num(grey).astype(np.uint8)[..., None], 3, axis=2)
        edge = cv2.morphologyEx(self.labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        rgb[edge] = (0xE0, 0xA1, 0x00)
        return Picture(rgb)

    def __len__(self) -> int:
        return len(self.balls)

    def __repr__(self) -> str:
        rows, cols = self.labels.shape
        return f"<Segmentation of {len(self)} balls in {cols} x {rows} pixels>"

    def _repr_png_(self) -> bytes:
        return self.show().to_png()


def segment_picture(picture: NDArray[np.generic] | str | Path, diameter_px: float, polarity: str = "solder_dark") -> Segmentation:
    """Find the balls in one picture, without a recipe.

    Subtracts the background, applies Otsu's threshold, and separates touching balls.

    Args:
        picture: An array (rows, cols) of any numeric dtype, or an image file: TIFF (its middle page), PNG, BMP or JPEG.
        diameter_px: The usual diameter of a ball; a third more or less is found.
        polarity: `solder_dark` or `solder_bright`.

    Raises:
        FileFault, ImageFault: The file cannot be read as a grey image.
        UsageFault: The array is not (rows, cols), or the polarity is unknown.

    Example:
        >>> result = segment_picture("bga.png", diameter_px=40)
        >>> result.to_pandas()
    """
    if polarity not in ("solder_dark", "solder_bright"):
        raise UsageFault("polarity", expected="solder_dark or solder_bright", found=repr(polarity))
    values = read_picture(Path(picture)) if isinstance(picture, str | Path) else np.asarray(picture)
    if values.ndim != 2:
        raise UsageFault("picture", expected="one grey value per pixel, (rows, cols)", found=f"shape {values.shape}")
    return Segmentation(values, find_balls(values, polarity, diameter_px))


def simulate_boards(
    out: str | Path,
    *,
    boards: int = 1,
    seed: int = 0,
    machine: str = "line_a",
    product: str = "tst4",
    cause: str = "random",
    jobs: int = 1,
) -> list[Path]:
    """Write a batch of simulated boards with known truth, and return the boards' folders.

    The batch is in the export format: `recipes/`, `boards/` and `labels.csv`, with `truth.csv` and `truth_boards.csv`. The
    same arguments write the same bytes.

    Args:
        out: A new or empty folder.
        boards: Number of boards.
        seed: Seed of the random generator.
        machine: Name of a simulated machine, or `random`.
        product: Name of a simulated product, or `random`.
        cause: A process cause, such as `warpage`, or `random`: mostly none.
        jobs: Number of processes.

    Raises:
        UsageFault: A name is unknown, a number is below one, or the folder already holds a batch.
    """
    from inspect_pop.simulate.board import simulate_batch

    simulate_batch(Path(out), boards, seed, machine=machine, product=product, cause=cause, jobs=jobs)
    return [board for board, _ in find_exports([out])]


def open_store(url: str | Path, *, must_exist: bool = False) -> "Store":
    """Open a store of inspections, a context manager; create it, or update its schema, where needed.

    Args:
        url: A path (a SQLite file) or a SQLAlchemy URL of SQLite or PostgreSQL.
        must_exist: Refuse a SQLite file that does not exist.

    Raises:
        StoreFault: The database cannot be reached, is newer than this software, or is not a store.

    Example:
        >>> with open_store("records.db") as store:
        ...     store.write(result.inspection)
    """
    from inspect_pop.store import open_store as open_records

    return open_records(url, must_exist=must_exist)


def compute_yield(
    store: "Store | str | Path",
    by: str | Sequence[str] = (),
    *,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Compute first-pass and final yield, DPMO and counts by label, each with its 95 % interval.

    Args:
        store: An open store, or the path or URL of one that exists.
        by: Keys to group by, of `day`, `lot`, `line`, `station`, `product`, `recipe`, `interface`, `work_order`, `package`,
            `part` and `construction`; one key, or a sequence.
        since: From this day or time on, ISO 8601.
        until: Until this day (included) or time, ISO 8601.
        only: Values of keys to restrict the boards to, such as `{"lot": "L-17"}`.

    Returns:
        One dict per group; `pandas.DataFrame(...)` takes the list as it is.

    Raises:
        StoreFault: There is no such store.
        UsageFault: A key is unknown.
    """
    from inspect_pop import yields

    keys = [by] if isinstance(by, str) else list(by)
    if isinstance(store, str | Path):
        return yields.report_yield(str(store), keys, since, until, only)
    return [group.to_dict() for group in yields.compute_yield(store, keys, since=since, until=until, only=only)]


def _name_joints(joints: JointTable) -> NDArray[np.object_]:
    names: NDArray[np.object_] = joints["refdes"] + "." + joints["interface"] + "." + joints["ball"]
    return names


def _count_verdicts(joints: JointTable) -> str:
    verdicts = joints["verdict"].tolist()
    return f"{pluralize(len(verdicts), 'joint')}: " + ", ".join(f"{verdicts.count(v)} {v}" for v in VERDICTS)


def _draw_strip(slices: NDArray[np.float32], caption: str) -> NDArray[np.uint8]:
    """Draw slices side by side under a caption, as one picture (rows, cols) uint8."""
    side = slices.shape[1] * _ZOOM
    grey = [cv2.resize(page, (side, side), interpolation=cv2.INTER_CUBIC) for page in scale_grey(slices)]
    strip: NDArray[np.uint8] = np.full((side + _CAPTION_PX, len(grey) * (side + _GAP_PX)), 255, dtype=np.uint8)
    for k, page in enumerate(grey):
        start = k * (side + _GAP_PX)
        strip[_CAPTION_PX:, start : start + side] = page
    cv2.putText(strip, caption, (4, _CAPTION_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0, 1, cv2.LINE_AA)
    return strip


def _draw_map(ball_map: "BallMap") -> str:
    """Draw the ball map of one interface as an SVG figure: a colour and a shape per class, a tooltip per joint."""
    margin = ball_map.margin
    width, height = 2 * (ball_map.half_width + margin), 2 * (ball_map.half_height + margin)
    shapes = []
    for marker in ball_map.markers:
        look = joint_class(marker.kind) if marker.kind in CLASSES else None
        colour, outline = (look.colour, look.outline) if look else (_UNDECIDED, joint_class("good").outline)
        title = f"{marker.ball}: {marker.verdict}, {marker.kind.replace('_', ' ')}"
        place = f"translate({marker.x} {marker.y}) scale({ball_map.scale})"
        edge = "#222" if marker.verdict != "pass" else "none"
        shapes.append(
            f'<path d="{outline}" transform="{place}" fill="{colour}" stroke="{edge}" stroke-width="2">'
            f"<title>{escape(title)}</title></path>"
        )
    box = f"{-width / 2:g} {-height / 2:g} {width} {height}"
    body = f'<rect x="{-ball_map.half_width}" y="{-ball_map.half_height}" width="{2 * ball_map.half_width}" '
    body += f'height="{2 * ball_map.half_height}" fill="#f4f6f7" stroke="#8a949b"/>'
    name = escape(f"{ball_map.refdes} {ball_map.interface}")
    svg = f'<svg viewBox="{box}" width="320" role="img" aria-label="{name}">{body}{"".join(shapes)}</svg>'
    return f'<figure style="margin:0"><figcaption>{name}</figcaption>{svg}</figure>'
