"""Read the inspection export, version 1: a folder with `export.json`, its images, and a recipe within the batch."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from inspect_pop.core.errors import InputFault, ManifestFault, PathFault, RecipeFault, describe_error
from inspect_pop.core.recipe import Interface, Recipe
from inspect_pop.ingest.contract import MANIFEST, BoardExport, HeightMapSource, ImageSource, SliceSource
from inspect_pop.ingest.document import FieldFault, format_value, parse_json, to_fault, to_faults
from inspect_pop.ingest.files import BOUNDS, hash_file, measure_file, read_bytes, resolve_inside
from inspect_pop.ingest.images import read_heights, read_slices
from inspect_pop.ingest.manifest import ImageEntry, Manifest, ParsedManifest, SliceEntry, parse_manifest
from inspect_pop.ingest.recipe_file import find_recipe_faults, read_recipe

__all__ = ["MANIFEST", "READER", "PopExportReader"]

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
