"""Read one grey picture from a file: TIFF, PNG, BMP or JPEG, bounded before it is decoded."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from inspect_pop.convert.pictures import open_pictures
from inspect_pop.core.errors import UsageFault

__all__ = ["read_picture"]


def read_picture(path: Path, page: int | None = None) -> NDArray[Any]:
    """Return one picture (rows, cols) as grey; marks in colours that were burnt in are NaN.

    Parameters
    ----------
    path
        A TIFF (also with JPEG inside), PNG, BMP or JPEG.
    page
        Which page of a TIFF, from 1; None for the middle one.

    Raises
    ------
    FileFault, ImageFault
        The file cannot be read, or is no such picture.
    UsageFault
        It has no such page.
    """
    planes = open_pictures([path])
    if page is not None and not 1 <= page <= planes.count:
        pages = "one page" if planes.count == 1 else f"the pages of {path}"
        raise UsageFault(f"--page {page}", expected=f"1 to {planes.count}: {pages}")
    return planes.read_plane(planes.count // 2 if page is None else page - 1)
