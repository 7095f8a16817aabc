"""Labelled joints as the network is trained on them: parallel arrays, one entry a joint, in a folder that can be memory-mapped.

A folder holds one `.npy` file an array and `samples.json`. Images are float16 (five times the pictures of a board fit
where float32 would not) and are written while boards are read, so that a set never has to lie in memory twice.

Several sets of joints as one to learn from, each as often as it shall count; pictures stay where they lie.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.inputs import CHANNELS, CONTRACT, SCALARS
from inspect_pop.core.errors import FileFault, ModelFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.segment.windows import SIZE

__all__ = ["SCHEMA", "Mixture", "SampleWriter", "Samples", "concat", "empty", "load", "mixture", "save"]

# ---- learn/samples
SCHEMA = "inspect-pop-samples/1"
_IMAGE = (CHANNELS, SIZE, SIZE)


@dataclass(frozen=True)
class Samples:
    """n joints with what is known about each.

    `images` (n, CHANNELS, SIZE, SIZE) float16 and `scalars` (n, len(SCALARS)) float32 are the network's inputs.
    `label` (n,) int8 is the index in `CLASSES`, -1 where unknown. `variety` (n,) int16 is a finer label (a simulator's),
    an index into `varieties`, -1 where there is none. `volume_ratio` (1), `web_um` and `gap_um` are float32, NaN where
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
        lengths = {name: len(getattr(self, name)) for name in _arrays()}
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
        """(n,) the serial of each joint's board."""
        return np.asarray(self.boards, dtype=np.str_)[self.board] if self.boards else np.zeros(0, np.str_)

    def take(self, index: NDArray[Any]) -> "Samples":
        """The joints named by a boolean mask or integer index; `boards` keeps those that are still there, in order."""
        parts = {name: getattr(self, name)[index] for name in _arrays()}
        kept, board = np.unique(parts["board"], return_inverse=True)
        parts["board"] = board.astype(np.int32)
        return Samples(**parts, boards=tuple(self.boards[k] for k in kept), varieties=self.varieties)

    def of_boards(self, serials: Sequence[str]) -> "Samples":
        """The joints of these boards."""
        wanted = [k for k, serial in enumerate(self.boards) if serial in set(serials)]
        return self.take(np.isin(self.board, wanted))

    def with_varieties(self, names: Sequence[str]) -> "Samples":
        """The same with these varieties, in this order, as a network counts them; others become unknown."""
        where = {name: k for k, name in enumerate(names)}
        known = np.asarray([where.get(name, -1) for name in self.varieties] + [-1], np.int16)
        return dataclasses.replace(self, variety=known[self.variety], varieties=tuple(names))

    def replace(self, **arrays: Any) -> "Samples":
        """The same joints with these arrays exchanged."""
        return dataclasses.replace(self, **arrays)


def empty() -> Samples:
    """A set without joints."""
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
    """All joints in order; boards of the same serial become one, so that a split by board stays one."""
    if not sets:
        return empty()
    arrays, boards, varieties = _joined(sets, _arrays())
    return Samples(**arrays, boards=boards, varieties=varieties)


def save(samples: Samples, folder: Path) -> None:
    """Write a set to a folder."""
    with SampleWriter(folder) as writer:
        writer.append(samples)


def load(folder: Path) -> Samples:
    """A set from its folder; `images` is memory-mapped read-only, everything else lies in memory.

    Raises `FileFault` where the folder is not a set or was cut, `ModelFault` where it was made for other inputs.
    """
    try:
        about = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "images" else None) for name in _arrays()}
    except (OSError, ValueError) as error:
        raise FileFault(f"samples {folder}", expected=SCHEMA, found=str(error), remedy="Collect the set again.") from error
    if about.get("schema") != SCHEMA or about.get("contract") != CONTRACT or about.get("classes") != list(CLASSES):
        raise ModelFault(
            f"samples {folder}",
            expected=f"{SCHEMA} with inputs {CONTRACT}",
            found=f"{about.get('schema')} with {about.get('contract')}",
            remedy="Collect the set again with this version of the software.",
        )
    return Samples(**arrays, boards=tuple(about["boards"]), varieties=tuple(about["varieties"]))


class SampleWriter:
    """Writes a set piece by piece; `samples.json` comes last, so that an unfinished folder cannot be loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._small: list[Samples] = []
        self._count = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> "SampleWriter":
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "samples.json").unlink(missing_ok=True)
        self._file = (self._folder / "images.npy").open("wb")
        _image_header(self._file, 0)
        return self

    def append(self, samples: Samples) -> None:
        """Add joints after those already written."""
        if self._file is None:
            raise ValueError("a sample writer takes joints only inside its with block")
        for start in range(0, len(samples), 4096):  # a memory-mapped set passes through in pieces
            self._file.write(np.ascontiguousarray(samples.images[start : start + 4096], np.float16).data)
        self._count += len(samples)
        self._small.append(samples.replace(images=_no_images(len(samples))))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is None:
            return
        self._file.seek(0)
        _image_header(self._file, self._count)
        self._file.close()
        self._file = None
        if kind is None:
            self._finish()

    def _finish(self) -> None:
        names = tuple(name for name in _arrays() if name != "images")
        small, boards, varieties = _joined(self._small or [empty()], names)
        for name, values in small.items():
            np.save(self._folder / f"{name}.npy", values, allow_pickle=False)
        about = {"schema": SCHEMA, "contract": CONTRACT, "classes": CLASSES, "joints": self._count}
        text = json.dumps(about | {"boards": boards, "varieties": varieties}, indent=1)
        (self._folder / "samples.json").write_text(text, encoding="utf-8")


def _arrays() -> tuple[str, ...]:
    return tuple(f.name for f in fields(Samples) if f.name not in ("boards", "varieties"))


def _joined(sets: Sequence[Samples], names: Sequence[str]) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], tuple[str, ...]]:
    """These arrays of all sets one after the other, with the boards and varieties of all, which `board` and `variety` index."""
    boards = tuple(dict.fromkeys(serial for s in sets for serial in s.boards))
    varieties = tuple(dict.fromkeys(name for s in sets for name in s.varieties))
    where = {serial: k for k, serial in enumerate(boards)}
    parts = [s.with_varieties(varieties) for s in sets]
    arrays = {name: np.concatenate([getattr(s, name) for s in parts]) for name in names if name != "board"}
    arrays["board"] = np.concatenate([np.asarray([where[b] for b in s.boards], np.int32)[s.board] for s in sets])
    return arrays, boards, varieties


def _no_images(n: int) -> NDArray[np.float16]:
    """(n, …) zeros that take no memory: the shape that `Samples` asks for, where the pictures lie elsewhere."""
    return np.broadcast_to(np.float16(0), (n, *_IMAGE))


def _image_header(file: BinaryIO, n: int) -> None:
    """The `.npy` header; numpy pads it so that a grown first axis fits in the same bytes."""
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": (n, *_IMAGE)}
    np.lib.format.write_array_header_1_0(file, about)


# ---- learn/mixture
@dataclass(frozen=True)
class _Pictures:
    """Images of several sets, indexed as one array: `part` (n,) says in which set a joint's image lies, `row` (n,) where."""

    parts: tuple[NDArray[np.float16], ...]
    part: NDArray[np.int64]
    row: NDArray[np.int64]

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.float16]:
        out = np.empty((len(index), *self.parts[0].shape[1:]), np.float16)
        for number, images in enumerate(self.parts):
            here = self.part[index] == number
            if here.any():
                out[here] = images[self.row[index][here]]
        return out


@dataclass(frozen=True)
class Mixture:
    """What `fit.TrainingSet` asks for; `varieties` are the names that `variety` indexes."""

    images: _Pictures
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


def mixture(sets: Sequence[Samples], varieties: tuple[str, ...], times: Sequence[int] | None = None) -> Mixture:
    """`sets`, each `times` as often (once where nothing is said), with these fine labels; others become unknown.

    At least one set.
    """
    known = [samples.with_varieties(varieties) for samples in sets]
    order = [k for k, often in enumerate(times or [1] * len(sets)) for _ in range(often)]
    names = ("scalars", "label", "variety", "volume_ratio", "web_um", "gap_um", "weight")
    arrays = {name: np.concatenate([getattr(known[k], name) for k in order]) for name in names}
    part = np.concatenate([np.full(len(known[k]), k) for k in order])
    row = np.concatenate([np.arange(len(known[k])) for k in order])
    return Mixture(_Pictures(tuple(s.images for s in known), part, row), varieties=varieties, **arrays)
