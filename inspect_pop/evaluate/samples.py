"""Labelled joints as arrays, in folders that can be memory-mapped; mixtures of such sets; and their split by board.

A folder holds one `.npy` file per array and `samples.json`. Images are float16 (five times the pictures of a board fit
where float32 would not) and are written while boards are read, so that a set never lies in memory twice.

A split always keeps boards whole: joints of one board on both sides of a split flatter every figure. The golden boards
follow from a hash of their serials, so that they are the same in every retraining, on any machine, whatever other boards
join; boards that were golden once (the model's card names them) stay golden.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.classify.model import CONTRACT
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import FileFault, LabelsFault, ModelFault, describe_error
from inspect_pop.segment.windows import SIZE

__all__ = [
    "SCHEMA",
    "Mixture",
    "SampleWriter",
    "Samples",
    "Split",
    "concat",
    "empty",
    "hash_board",
    "load",
    "mix_samples",
    "save",
    "split_boards",
    "split_folds",
]

SCHEMA = "inspect-pop-samples/1"
_IMAGE = (CHANNELS, SIZE, SIZE)
# With fewer boards none can be reserved to judge by.
_MIN_BOARDS = 3


@dataclass(frozen=True)
class Samples:
    """n joints and what is known about each, as parallel arrays.

    `images` (n, CHANNELS, SIZE, SIZE) float16 and `scalars` (n, len(SCALARS)) float32 are the network's inputs.
    `label` (n,) int8 is the index in `CLASSES`, -1 if unknown. `variety` (n,) int16 is a finer label (a simulator's),
    an index into `varieties`, -1 if there is none. `volume_ratio` (1), `web_um` and `gap_um` are float32, NaN if
    unknown. `board` (n,) int32 is an index into `boards`, the serials. `machine`, `refdes`, `interface`, `ball` are
    text; `weight` (n,) float32 is how much the joint counts in training.
    """

    images: NDArray[np.float16]
    scalars: NDArray[np.float32]
    label: NDArray[np.int8]
    variety: NDArray[np.int16]
    volume_ratio: NDArray[np.float32]
    web_um: NDArray[np.float32]
    gap_um: NDArray[np.float32]
    board: NDArray[np.int32]
    machine: NDArray[np.str_]
    refdes: NDArray[np.str_]
    interface: NDArray[np.str_]
    ball: NDArray[np.str_]
    weight: NDArray[np.float32]
    boards: tuple[str, ...]
    varieties: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in _array_names()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"samples of unequal length: {lengths}")
        if self.images.shape[1:] != _IMAGE:
            raise ValueError(f"images must be (n, {_IMAGE}), got {self.images.shape}")
        for name, low, names in (("board", 0, self.boards), ("variety", -1, self.varieties), ("label", -1, CLASSES)):
            index = getattr(self, name)
            if len(index) and (index.min() < low or index.max() >= len(names)):
                raise ValueError(f"{name} must be {low} to {len(names) - 1}, got {index.min()} to {index.max()}")

    def __len__(self) -> int:
        return len(self.label)

    @property
    def serials(self) -> NDArray[np.str_]:
        """The (n,) serial of each joint's board."""
        return np.asarray(self.boards, dtype=np.str_)[self.board] if self.boards else np.zeros(0, np.str_)

    def take(self, index: NDArray[Any]) -> "Samples":
        """Return the joints of a boolean mask or integer index; `boards` keeps those that still have joints, in order."""
        parts = {name: getattr(self, name)[index] for name in _array_names()}
        remaining, board = np.unique(parts["board"], return_inverse=True)
        parts["board"] = board.astype(np.int32)
        return Samples(**parts, boards=tuple(self.boards[k] for k in remaining), varieties=self.varieties)

    def of_boards(self, serials: Sequence[str]) -> "Samples":
        """Return the joints of these boards."""
        wanted = [k for k, serial in enumerate(self.boards) if serial in set(serials)]
        return self.take(np.isin(self.board, wanted))

    def with_varieties(self, names: Sequence[str]) -> "Samples":
        """Return the joints with `varieties` replaced by these names, in a network's order; others become unknown."""
        where = {name: k for k, name in enumerate(names)}
        known = np.asarray([where.get(name, -1) for name in self.varieties] + [-1], np.int16)
        return dataclasses.replace(self, variety=known[self.variety], varieties=tuple(names))

    def replace(self, **arrays: Any) -> "Samples":
        """Return the joints with these arrays replaced."""
        return dataclasses.replace(self, **arrays)


def empty() -> Samples:
    """Return a set without joints."""
    number, text = np.zeros(0, np.float32), np.zeros(0, "U1")
    return Samples(
        images=np.zeros((0, *_IMAGE), np.float16),
        scalars=np.zeros((0, len(SCALARS)), np.float32),
        label=np.zeros(0, np.int8),
        variety=np.zeros(0, np.int16),
        volume_ratio=number,
        web_um=number,
        gap_um=number,
        board=np.zeros(0, np.int32),
        machine=text,
        refdes=text,
        interface=text,
        ball=text,
        weight=number,
        boards=(),
    )


def concat(sets: Sequence[Samples]) -> Samples:
    """Return all joints in order; boards of the same serial become one, so that a split by board keeps them together."""
    if not sets:
        return empty()
    arrays, boards, varieties = _concat_arrays(sets, _array_names())
    return Samples(**arrays, boards=boards, varieties=varieties)


def save(samples: Samples, folder: Path) -> None:
    """Write a set to a folder."""
    with SampleWriter(folder) as writer:
        writer.append(samples)


def load(folder: Path) -> Samples:
    """Read a set from its folder; `images` is memory-mapped read-only, everything else lies in memory.

    Raises `FileFault` if the folder is not a set or a file was cut, `ModelFault` if it was made for other inputs.
    """
    try:
        about = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "images" else None) for name in _array_names()}
    except (OSError, ValueError) as error:
        raise FileFault(
            f"samples {folder}", expected=SCHEMA, found=describe_error(error), remedy="Collect the set again."
        ) from error
    if about.get("schema") != SCHEMA or about.get("contract") != CONTRACT or about.get("classes") != list(CLASSES):
        raise ModelFault(
            f"samples {folder}",
            expected=f"{SCHEMA} with inputs {CONTRACT}",
            found=f"{about.get('schema')} with {about.get('contract')}",
            remedy="Collect the set again with this version of the software.",
        )
    return Samples(**arrays, boards=tuple(about["boards"]), varieties=tuple(about["varieties"]))


class SampleWriter:
    """Write a set piece by piece; `samples.json` comes last, so that an unfinished folder cannot be loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._small: list[Samples] = []
        self._count = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> "SampleWriter":
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "samples.json").unlink(missing_ok=True)
        self._file = (self._folder / "images.npy").open("wb")
        _write_image_header(self._file, 0)
        return self

    def append(self, samples: Samples) -> None:
        """Append joints to those already written."""
        if self._file is None:
            raise ValueError("a sample writer accepts joints only inside its with block")
        for start in range(0, len(samples), 4096):  # a memory-mapped set passes through in pieces
            self._file.write(np.ascontiguousarray(samples.images[start : start + 4096], np.float16).data)
        self._count += len(samples)
        # Zeros that take no memory: `Samples` checks the shape of images.
        placeholder = np.broadcast_to(np.float16(0), (len(samples), *_IMAGE))
        self._small.append(samples.replace(images=placeholder))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is None:
            return
        self._file.seek(0)
        _write_image_header(self._file, self._count)
        self._file.close()
        self._file = None
        if kind is not None:
            return
        names = tuple(name for name in _array_names() if name != "images")
        small, boards, varieties = _concat_arrays(self._small or [empty()], names)
        for name, values in small.items():
            np.save(self._folder / f"{name}.npy", values, allow_pickle=False)
        about = {"schema": SCHEMA, "contract": CONTRACT, "classes": CLASSES, "joints": self._count}
        text = json.dumps(about | {"boards": boards, "varieties": varieties}, indent=1)
        (self._folder / "samples.json").write_text(text, encoding="utf-8")


def _array_names() -> tuple[str, ...]:
    return tuple(f.name for f in fields(Samples) if f.name not in ("boards", "varieties"))


def _concat_arrays(
    sets: Sequence[Samples], names: Sequence[str]
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], tuple[str, ...]]:
    """Return these arrays of all sets in order, with the boards and varieties of all, which `board` and `variety` index."""
    boards = tuple(dict.fromkeys(serial for s in sets for serial in s.boards))
    varieties = tuple(dict.fromkeys(name for s in sets for name in s.varieties))
    where = {serial: k for k, serial in enumerate(boards)}
    parts = [s.with_varieties(varieties) for s in sets]
    arrays = {name: np.concatenate([getattr(s, name) for s in parts]) for name in names if name != "board"}
    arrays["board"] = np.concatenate([np.asarray([where[b] for b in s.boards], np.int32)[s.board] for s in sets])
    return arrays, boards, varieties


def _write_image_header(file: BinaryIO, n: int) -> None:
    """Write the `.npy` header; numpy pads it so that a larger first axis fits in the same bytes."""
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": (n, *_IMAGE)}
    np.lib.format.write_array_header_1_0(file, about)


@dataclass(frozen=True)
class _MixedImages:
    """Images of several sets, indexed as one array: `part` (n,) says which set holds a joint's image, `row` (n,) where."""

    parts: tuple[NDArray[np.float16], ...]
    part: NDArray[np.int64]
    row: NDArray[np.int64]

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.float16]:
        out = np.empty((len(index), *self.parts[0].shape[1:]), np.float16)
        for number, images in enumerate(self.parts):
            rows = self.part[index] == number
            if rows.any():
                out[rows] = images[self.row[index][rows]]
        return out


@dataclass(frozen=True)
class Mixture:
    """Several sets as one to train on, each counting a number of times; images are not copied.

    It has the attributes of `fit.TrainingSet`; `varieties` are the names that `variety` indexes.
    """

    images: _MixedImages
    scalars: NDArray[np.float32]
    label: NDArray[np.int8]
    variety: NDArray[np.int16]
    volume_ratio: NDArray[np.float32]
    web_um: NDArray[np.float32]
    gap_um: NDArray[np.float32]
    weight: NDArray[np.float32]
    varieties: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)


def mix_samples(sets: Sequence[Samples], varieties: tuple[str, ...], times: Sequence[int] | None = None) -> Mixture:
    """Return one or more sets as one, each `times` as often (default: once), with these fine labels; others become unknown."""
    known = [samples.with_varieties(varieties) for samples in sets]
    order = [k for k, often in enumerate(times or [1] * len(sets)) for _ in range(often)]
    names = ("scalars", "label", "variety", "volume_ratio", "web_um", "gap_um", "weight")
    arrays = {name: np.concatenate([getattr(known[k], name) for k in order]) for name in names}
    part = np.concatenate([np.full(len(known[k]), k) for k in order])
    row = np.concatenate([np.arange(len(known[k])) for k in order])
    return Mixture(_MixedImages(tuple(s.images for s in known), part, row), varieties=varieties, **arrays)


@dataclass(frozen=True)
class Split:
    """Serials by purpose, sorted, each in one part only. Without boards to calibrate on, those of `train` do it in turn."""

    train: tuple[str, ...]
    calibrate: tuple[str, ...]
    golden: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """Return the split for the report of a training."""
        return {"train": list(self.train), "calibrate": list(self.calibrate), "golden": list(self.golden)}


def hash_board(serial: str, purpose: str) -> float:
    """Return a number in 0 to 1 that depends on the serial and the purpose alone."""
    digest = hashlib.sha256(f"{purpose}\n{serial}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_boards(
    serials: Iterable[str],
    *,
    golden_share: float = 0.2,
    calibrate_share: float = 0.2,
    earlier_golden: Collection[str] = (),
    earlier_train: Collection[str] = (),
) -> Split:
    """Split boards into those to train, to calibrate and to judge by (golden); at least one board in each part.

    Parameters
    ----------
    golden_share, calibrate_share
        Approximate share of all boards. With `calibrate_share` 0 no board calibrates, and golden boards are no more than
        their share.
    earlier_golden
        Serials that were golden before: they stay golden.
    earlier_train
        Serials that the model to start from was trained on: judging by them would flatter it, so they never become golden.

    Raises
    ------
    LabelsFault
        Fewer than three boards, or all of them are in `earlier_golden` or `earlier_train`.
    """
    boards = sorted(set(serials))
    if len(boards) < _MIN_BOARDS:
        raise LabelsFault(
            "labelled boards",
            expected=f"at least {_MIN_BOARDS}: to train, to calibrate and to judge",
            found=str(len(boards)),
            remedy="Label more boards; four are enough to help a new machine.",
        )
    golden = [b for b in boards if b in earlier_golden]
    free = [b for b in boards if b not in earlier_golden and b not in earlier_train]
    free.sort(key=lambda b: hash_board(b, "golden"))
    # If boards are so few that none calibrates, each further golden one is one that does not train.
    most = len(free) if calibrate_share else max(1, round(golden_share * len(boards)))
    golden += [b for b in free if hash_board(b, "golden") < golden_share][:most]
    if not golden and free:
        golden = [free[0]]
    rest = sorted((b for b in boards if b not in golden), key=lambda b: hash_board(b, "calibrate"))
    if not golden or len(rest) < 2:
        raise LabelsFault(
            "labelled boards",
            expected="at least one board to judge by and two to train and calibrate",
            found=f"{len(golden)} to judge by, {len(rest)} others",
            remedy="Label boards that no earlier training has used.",
        )
    count = max(1, min(len(rest) - 1, round(calibrate_share * len(boards)))) if calibrate_share else 0
    return Split(train=tuple(sorted(rest[count:])), calibrate=tuple(sorted(rest[:count])), golden=tuple(sorted(golden)))


def split_folds(serials: Iterable[str], count: int) -> list[tuple[str, ...]]:
    """Split boards into `count` parts of nearly equal size (fewer if there are fewer boards), always the same ones."""
    order = sorted(set(serials), key=lambda b: hash_board(b, "fold"))
    count = max(1, min(count, len(order)))
    return [tuple(order[k::count]) for k in range(count)]
