"""The inspection export, version 1: a folder with `export.json`, the images it names, and a recipe within the batch."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from inspect_pop.core.errors import InputFault, ManifestFault, PathFault, RecipeFault
from inspect_pop.core.recipe import Interface, Recipe
from inspect_pop.ingest.contract import BoardExport, ImageSource
from inspect_pop.ingest.document import Problem, as_faults, as_one, parse_json, show
from inspect_pop.ingest.files import BOUNDS, hash_file, inside, read_bytes, regular_size
from inspect_pop.ingest.images import read_heights, read_slices
from inspect_pop.ingest.manifest import ImageEntry, Manifest, ParsedManifest, SliceEntry, parse_manifest
from inspect_pop.ingest.recipe_file import read_recipe, recipe_faults

__all__ = ["MANIFEST", "READER", "PopExportReader"]

MANIFEST = "export.json"
_SLACK_UM = 50.0  # the machine's belief may be 10 um off, warpage moves joints by some 80 um at the most


@dataclass(frozen=True)
class _Board:
    """Where a board lies and what its manifest says, right or wrong."""

    folder: Path
    file: Path
    root: Path
    document: dict[str, Any]
    parsed: ParsedManifest


class PopExportReader:
    """Reader of `pop-export/1`."""

    name = "pop-export/1"

    def could_be(self, path: Path) -> bool:
        """Whether this is a folder that holds `export.json`, whatever that is: a damaged board is still a board."""
        try:
            return (path / MANIFEST).is_symlink() or (path / MANIFEST).exists()
        except (OSError, ValueError):
            return False

    def open(self, path: Path, root: Path) -> BoardExport:
        """The board in the folder `path`: manifest, recipe and images checked, all but the pixels. Raises `InputFault`."""
        board = _board(path, root)
        if board.parsed.manifest is None or board.parsed.problems:
            raise as_one(board.file, board.parsed.problems, ManifestFault)
        manifest = board.parsed.manifest
        images = [_source(board, entry, index) for entry, index in _entries(board)]
        recipe = read_recipe(_recipe_path(board, manifest), board.root)
        differences = _differences(manifest, board.parsed, recipe)
        if differences:
            raise as_one(board.file, differences, RecipeFault)
        return _export(board, manifest, recipe, images)

    def faults(self, path: Path, root: Path) -> list[InputFault]:
        """Everything that is wrong with a board, with every image read and decoded; empty for one that can be inspected."""
        try:
            board = _board(path, root)
        except InputFault as fault:
            return [fault]
        faults = as_faults(board.file, board.parsed.problems, ManifestFault)
        if board.parsed.manifest is not None:
            faults += _recipe_faults(board, board.parsed.manifest)
        for entry, index in _entries(board):
            try:
                _source(board, entry, index)[0].read()
            except InputFault as fault:
                faults.append(fault)
        return faults


READER = PopExportReader()


def _board(path: Path, root: Path) -> _Board:
    """The board's folder and manifest, which lie inside `root`; `path` may also be the manifest itself."""
    folder = path.parent if path.name == MANIFEST and not path.is_dir() else path
    try:
        folder, root = folder.resolve(), root.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise PathFault(str(path), expected="a board's folder", found=str(error)) from error
    if not folder.is_relative_to(root):
        raise PathFault(str(path), expected=f"a board inside {root}", found=f"{folder}", remedy="Name the root that holds it.")
    file = folder / MANIFEST
    inside(MANIFEST, folder, folder, str(file))
    document = parse_json(file, read_bytes(file, BOUNDS.manifest_bytes), ManifestFault)
    return _Board(folder, file, root, document, parse_manifest(document))


def _entries(board: _Board) -> list[tuple[ImageEntry, int]]:
    return list(zip(board.parsed.images, board.parsed.index, strict=True))


def _source(board: _Board, entry: ImageEntry, index: int) -> tuple[ImageSource, str]:
    """An image that lies in the board's folder, ready to be read, and the sha256 that its file must have."""
    path = inside(entry.file, board.folder, board.folder, f"{board.file}: images[{index}].file")
    regular_size(path)
    sha256 = entry.sha256.lower() if entry.sha256 else hash_file(path, BOUNDS.image_bytes)
    if isinstance(entry, SliceEntry):
        slices = partial(read_slices, entry, path, sha256)
        return ImageSource(entry.kind, entry.refdes, entry.interface, None, path, slices), sha256
    return ImageSource(entry.kind, entry.refdes, None, entry.stage, path, partial(read_heights, entry, path, sha256)), sha256


def _recipe_path(board: _Board, manifest: Manifest) -> Path:
    return inside(manifest.recipe, board.folder, board.root, f"{board.file}: recipe")


def _recipe_faults(board: _Board, manifest: Manifest) -> list[InputFault]:
    try:
        path = _recipe_path(board, manifest)
    except InputFault as fault:
        return [fault]
    faults = recipe_faults(path, board.root)
    if faults:
        return faults
    return as_faults(board.file, _differences(manifest, board.parsed, read_recipe(path, board.root)), RecipeFault)


def _differences(manifest: Manifest, parsed: ParsedManifest, recipe: Recipe) -> list[Problem]:
    """What the export and its recipe disagree about."""
    problems: list[Problem] = []
    if manifest.product != recipe.product:
        problems.append(Problem("product", f"{show(recipe.product)} as in the recipe", show(manifest.product)))
    packages = {p.refdes: {i.name: i for i in p.interfaces} for p in recipe.packages}
    for entry, index in zip(parsed.images, parsed.index, strict=True):
        at = f"images[{index}]"
        if entry.refdes not in packages:
            problems.append(Problem(f"{at}.refdes", f"one of {show(sorted(packages))} as in the recipe", show(entry.refdes)))
        elif isinstance(entry, SliceEntry):
            problems += _slice_differences(entry, at, packages[entry.refdes].get(entry.interface))
    return problems


def _slice_differences(entry: SliceEntry, at: str, interface: Interface | None) -> list[Problem]:
    """Slices of an interface that the package does not have, or at heights where it is not (another's, or other units)."""
    if interface is None:
        return [Problem(f"{at}.interface", "an interface of the recipe's package", show(entry.interface))]
    low_um, high_um = interface.pads_z_um[0] - _SLACK_UM, interface.pads_z_um[1] + _SLACK_UM
    if not any(low_um <= z <= high_um for z in entry.z_um):
        return [
            Problem(
                f"{at}.z_um",
                f"slices between {low_um:g} and {high_um:g} um, where the {interface.name} joints are",
                show(entry.z_um),
            )
        ]
    if len(entry.z_um) > 1 and entry.z_um[-1] - entry.z_um[0] < interface.gap_um / 10:
        return [
            Problem(f"{at}.z_um", f"slices through a stand-off of {interface.gap_um:g} um", f"{show(entry.z_um)}; micrometres?")
        ]
    return []


def _export(board: _Board, manifest: Manifest, recipe: Recipe, images: Sequence[tuple[ImageSource, str]]) -> BoardExport:
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
        digest=hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest(),
    )
