"""Read the inspection export, version 1, and its file of labels."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.columns import KEY
from inspect_pop.core.errors import InputFault, LabelsFault, ManifestFault, PathFault, RecipeFault, describe_error
from inspect_pop.core.recipe import Interface, Recipe
from inspect_pop.core.text import restore_cell
from inspect_pop.ingest.contract import MANIFEST, BoardExport, HeightMapSource, ImageSource, SliceSource
from inspect_pop.ingest.document import (
    FieldFault,
    ImageEntry,
    Manifest,
    ParsedManifest,
    SliceEntry,
    format_value,
    parse_json,
    parse_manifest,
    parse_number,
    read_rows,
    to_fault,
    to_faults,
)
from inspect_pop.ingest.files import BOUNDS, decode_text, hash_file, measure_file, read_bytes, resolve_inside
from inspect_pop.ingest.images import read_heights, read_slices
from inspect_pop.ingest.recipe_file import find_recipe_faults, read_recipe

__all__ = ["MANIFEST", "READER", "JointKey", "LabelledJoint", "Labels", "PopExportReader", "check_labels", "read_labels"]

JointKey = tuple[str, str, str, str]  # serial, refdes, interface, ball
REQUIRED = (*KEY, "label")
OPTIONAL = ("source", "labelled_by", "labelled_at", "note", "inspected_at", "stands_for")


@dataclass(frozen=True, slots=True)
class LabelledJoint:
    """The label of one joint. Text that the file does not give is empty; `line` is the line of the file.

    `stands_for` is the number of joints from which it was drawn, for a joint that passed and was looked at in a sample; else 1.
    """

    label: str
    source: str
    labelled_by: str
    labelled_at: str
    note: str
    line: int
    inspected_at: str = ""
    stands_for: float = 1.0


@dataclass(frozen=True)
class Labels(Mapping[JointKey, LabelledJoint]):
    """The labels of one file, by (serial, refdes, interface, ball), in the order in which it first names the joints."""

    path: Path
    joints: dict[JointKey, LabelledJoint]

    def __getitem__(self, key: JointKey) -> LabelledJoint:
        return self.joints[key]

    def __iter__(self) -> Iterator[JointKey]:
        return iter(self.joints)

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def serials(self) -> tuple[str, ...]:
        """The serials of boards with labels, each once, in the file's order."""
        return tuple(dict.fromkeys(key[0] for key in self.joints))


def read_labels(path: Path | str) -> Labels:
    """Read all labels of a file; a later line for the same joint replaces an earlier one.

    Raises `FileFault` for a file that cannot be read. Raises `LabelsFault`, naming the line, for a missing column, an
    unknown label or interface, a `stands_for` that is no number from 1 on, and a row without a joint.
    """
    path = Path(path)
    text = decode_text(path, read_bytes(path, BOUNDS.labels_bytes), LabelsFault)
    joints: dict[JointKey, LabelledJoint] = {}
    for line, row in read_rows(path, text, REQUIRED, OPTIONAL, LabelsFault):
        serial, refdes, interface, ball, label, source, by, at, note, inspected_at, stands_for = map(restore_cell, row)
        if label not in CLASSES:
            raise LabelsFault(f"{path}: line {line}: label", expected=f"one of {', '.join(CLASSES)}", found=format_value(label))
        if not (serial and refdes and ball) or interface not in ("lower", "upper"):
            found = ",".join((serial, refdes, interface, ball))
            raise LabelsFault(
                f"{path}: line {line}", expected="a joint: serial, refdes, lower or upper, ball", found=format_value(found)
            )
        joints[serial, refdes, interface, ball] = LabelledJoint(
            label, source, by, at, note, line, inspected_at, _parse_count(path, line, stands_for)
        )
    return Labels(path, joints)


def _parse_count(path: Path, line: int, text: str) -> float:
    """Return how many joints a label stands for; 1 where the file does not say."""
    count = parse_number(path, line, "stands_for", text, LabelsFault) if text else 1.0
    if count < 1:
        raise LabelsFault(f"{path}: line {line}: stands_for", expected="a number of joints, 1 or more", found=format_value(text))
    return count


def check_labels(labels: Labels, recipes: Mapping[str, Recipe]) -> None:
    """Check that the labelled joints exist on their boards; `recipes` by serial.

    A board that is not among `recipes` is skipped, since one file may hold the labels of many batches.
    Raises `LabelsFault` naming the line.
    """
    known = {
        recipe.digest: {(p.refdes, i.name, ball) for p in recipe.packages for i in p.interfaces for ball in i.ball}
        for recipe in {recipe.digest: recipe for recipe in recipes.values()}.values()
    }
    for (serial, *joint), labelled in labels.items():
        recipe = recipes.get(serial)
        if recipe is not None and tuple(joint) not in known[recipe.digest]:
            found = f"{'/'.join(joint)} of {serial}"
            remedy = f"The recipe {recipe.name} has no such joint."
            raise LabelsFault(
                f"{labels.path}: line {labelled.line}",
                expected="a joint of its board's recipe",
                found=format_value(found),
                remedy=remedy,
            )


# Read the inspection export, version 1: a folder with `export.json`, its images, and a recipe within the batch.


_SLACK_UM = 50.0  # a machine's heights are up to 10 um off, and warpage moves joints by some 80 um at most


@dataclass(frozen=True)
class _ParsedBoard:
    """The folder of a board, and what its manifest says, right or wrong."""

    folder: Path
    file: Path
    root: Path
    document: dict[str, Any]
    parsed: ParsedManifest


class PopExportReader:
    """Reader of `pop-export/1`."""

    name = "pop-export/1"

    def could_be(self, path: Path) -> bool:
        """Return whether this is a folder that holds `export.json`, in whatever state: a damaged board is still a board."""
        try:
            return (path / MANIFEST).is_symlink() or (path / MANIFEST).exists()
        except (OSError, ValueError):
            return False

    def open(self, path: Path, root: Path) -> BoardExport:
        """Open the board in the folder `path`: check its manifest, recipe and image files. Raises `InputFault`."""
        board = _parse_board(path, root)
        if board.parsed.manifest is None or board.parsed.problems:
            raise to_fault(board.file, board.parsed.problems, ManifestFault)
        manifest = board.parsed.manifest
        images = [_open_image(board, entry, index) for entry, index in board.parsed.entries]
        recipe = read_recipe(_resolve_recipe(board, manifest), board.root)
        differences = _compare_with_recipe(manifest, board.parsed, recipe)
        if differences:
            raise to_fault(board.file, differences, RecipeFault)
        canonical = json.dumps(board.document, sort_keys=True, separators=(",", ":")).encode("ascii")
        digests = [hashlib.sha256(canonical).hexdigest(), recipe.digest, *(sha256 for _, sha256 in images)]
        return BoardExport(
            path=board.folder,
            serial=manifest.serial,
            panel=manifest.panel,
            position=manifest.position,
            product=manifest.product,
            lot=manifest.lot,
            work_order=manifest.work_order,
            line=manifest.line,
            station=manifest.station,
            operator=manifest.operator,
            inspected_at=manifest.inspected_at,
            recipe=recipe,
            images=tuple(image for image, _ in images),
            assumed=tuple(manifest.assumed),
            digest=hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest(),
        )

    def faults(self, path: Path, root: Path) -> list[InputFault]:
        """Return every fault of a board, with every image read and decoded; empty for one that can be inspected."""
        try:
            board = _parse_board(path, root)
        except InputFault as fault:
            return [fault]
        faults = to_faults(board.file, board.parsed.problems, ManifestFault)
        manifest = board.parsed.manifest
        if manifest is not None:
            try:
                path = _resolve_recipe(board, manifest)
                wrong = find_recipe_faults(path, board.root)
                if not wrong:
                    differences = _compare_with_recipe(manifest, board.parsed, read_recipe(path, board.root))
                    wrong = to_faults(board.file, differences, RecipeFault)
                faults += wrong
            except InputFault as fault:
                faults.append(fault)
        for entry, index in board.parsed.entries:
            try:
                _open_image(board, entry, index)[0].read()
            except InputFault as fault:
                faults.append(fault)
        return faults


READER = PopExportReader()


def _parse_board(path: Path, root: Path) -> _ParsedBoard:
    """Parse the manifest of a board inside `root`; `path` is its folder or the manifest itself."""
    folder = path.parent if path.name == MANIFEST and not path.is_dir() else path
    try:
        folder, root = folder.resolve(), root.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise PathFault(str(path), expected="a board's folder", found=describe_error(error)) from error
    if not folder.is_relative_to(root):
        raise PathFault(str(path), expected=f"a board inside {root}", found=f"{folder}", remedy="Give a root that holds it.")
    file = folder / MANIFEST
    resolve_inside(MANIFEST, folder, folder, str(file))
    document = parse_json(file, read_bytes(file, BOUNDS.manifest_bytes), ManifestFault)
    return _ParsedBoard(folder, file, root, document, parse_manifest(document))


def _open_image(board: _ParsedBoard, entry: ImageEntry, index: int) -> tuple[ImageSource, str]:
    """Return an image that lies in the board's folder, ready to be read, and the sha256 that its file must have."""
    path = resolve_inside(entry.file, board.folder, board.folder, f"{board.file}: images[{index}].file")
    measure_file(path)
    sha256 = entry.sha256.lower() if entry.sha256 else hash_file(path, BOUNDS.image_bytes)
    if isinstance(entry, SliceEntry):
        return SliceSource(entry.refdes, entry.interface, path, partial(read_slices, entry, path, sha256)), sha256
    return HeightMapSource(entry.refdes, entry.stage, path, partial(read_heights, entry, path, sha256)), sha256


def _resolve_recipe(board: _ParsedBoard, manifest: Manifest) -> Path:
    return resolve_inside(manifest.recipe, board.folder, board.root, f"{board.file}: recipe")


def _compare_with_recipe(manifest: Manifest, parsed: ParsedManifest, recipe: Recipe) -> list[FieldFault]:
    """Return what the export and its recipe disagree about."""
    problems: list[FieldFault] = []
    if manifest.product != recipe.product:
        problems.append(FieldFault("product", f"{format_value(recipe.product)} as in the recipe", format_value(manifest.product)))
    packages = {p.refdes: {i.name: i for i in p.interfaces} for p in recipe.packages}
    for entry, index in parsed.entries:
        at = f"images[{index}]"
        if entry.refdes not in packages:
            expect = f"one of {format_value(sorted(packages))} as in the recipe"
            problems.append(FieldFault(f"{at}.refdes", expect, format_value(entry.refdes)))
        elif isinstance(entry, SliceEntry):
            problems += _compare_slices(entry, at, packages[entry.refdes].get(entry.interface))
    return problems


def _compare_slices(entry: SliceEntry, at: str, interface: Interface | None) -> list[FieldFault]:
    """Return the fault of slices whose interface the package lacks, or whose heights are another's or in other units."""
    if interface is None:
        return [FieldFault(f"{at}.interface", "an interface of the recipe's package", format_value(entry.interface))]
    z_um = format_value(entry.z_um)
    low_um, high_um = interface.pads_z_um[0] - _SLACK_UM, interface.pads_z_um[1] + _SLACK_UM
    if not any(low_um <= z <= high_um for z in entry.z_um):
        expect = f"slices between {low_um:g} and {high_um:g} um, where the {interface.name} joints are"
        return [FieldFault(f"{at}.z_um", expect, z_um)]
    if len(entry.z_um) > 1 and entry.z_um[-1] - entry.z_um[0] < interface.gap_um / 10:
        return [FieldFault(f"{at}.z_um", f"slices through a stand-off of {interface.gap_um:g} um", f"{z_um}; micrometres?")]
    return []
