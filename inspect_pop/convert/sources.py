"""Which reader opens a source: pictures, a raw volume with or without a header, or a container, by name and content."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from inspect_pop.convert import dicom, metaimage, nifti, nrrd, pictures, txrm, volume_header
from inspect_pop.convert.map_file import ImageMap
from inspect_pop.convert.planes import Planes, RawLayout, open_raw
from inspect_pop.core.errors import FileFault

__all__ = ["HEADER_SUFFIXES", "find_suffix", "open_planes"]

_HEADERS: dict[str, Callable[[Path, Path], Planes]] = {
    ".vgi": volume_header.open_vgi,
    ".pcr": volume_header.open_pcr,
    ".nhdr": nrrd.open_nrrd,
    ".nrrd": nrrd.open_nrrd,
    ".mhd": metaimage.open_metaimage,
    ".mha": metaimage.open_metaimage,
    ".nii": nifti.open_nifti,
    ".hdr": nifti.open_nifti,
    ".txrm": txrm.open_txrm,
    ".txm": txrm.open_txrm,
}
HEADER_SUFFIXES = tuple(_HEADERS)


def open_planes(files: list[Path], folder: Path, image: ImageMap) -> Planes:
    """Open the planes of one image of the map.

    Args:
        files: Its files, in natural order, at least one.
        folder: The board's folder, which a data file that a header names must lie in.
        image: What the map says of it.

    Raises:
        FileFault: A file is missing, cut short, damaged, of no known type, or its size disagrees with its header.
        ImageFault: Sizes or types are not allowed.
        PathFault: A header names a file outside the board's folder.
    """
    if image.shape is not None and image.dtype is not None:
        shape = image.shape
        dtype = np.dtype(image.dtype).newbyteorder("<" if image.byte_order == "little" else ">")
        rows, cols = shape[-2:]
        if len(files) == 1:
            count = shape[0] if len(shape) == 3 else 1
            return open_raw(files[0], RawLayout(count, (rows, cols), dtype, image.skip_bytes))
        if len(shape) == 3 and shape[0] != len(files):
            raise FileFault(str(files[0].parent), expected=f"{shape[0]} files, as shape says", found=f"{len(files)}")
        singles = [open_raw(path, RawLayout(1, (rows, cols), dtype, image.skip_bytes)) for path in files]
        name = f"{files[0].parent}: {files[0].name} to {files[-1].name}"
        return Planes(name, len(files), (rows, cols), lambda plane, part: singles[plane].read(0, part), tuple(files))
    headers = [path for path in files if find_suffix(path) in HEADER_SUFFIXES]
    if len(headers) == 1:
        return _HEADERS[find_suffix(headers[0])](headers[0], folder)
    if dicom.is_dicom(files[0]):
        return dicom.open_series(files)
    if shown := [path for path in files if pictures.is_picture(path)]:
        return pictures.open_pictures(shown)
    kinds = ", ".join([*pictures.SUFFIXES, *HEADER_SUFFIXES, ".dcm"])
    remedy = "For raw pixels without a header give shape and dtype in the map."
    raise FileFault(str(files[0]), expected=f"one header, or pictures: {kinds}", found=f"{len(files)} files", remedy=remedy)


def find_suffix(path: Path) -> str:
    """Return the suffix of a file in lower case, without that of a packed volume."""
    name = path.name.lower()
    return ".nii" if name.endswith(".nii.gz") else path.suffix.lower()
