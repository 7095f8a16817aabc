"""Map files: what is read, and that all mistakes are named at once."""

from pathlib import Path

import pytest

from inspect_pop.convert.map_file import load_map
from inspect_pop.core.errors import MapFault
from tests.convert.boards import slices, write_map


def test_the_map_of_the_format_page_is_read(tmp_path: Path) -> None:
    more = ("pixel_um = 11.5", "z_um = [5, 45, 85, 125, 165]", 'polarity = "auto"', 'method = "laminography"')
    machine = load_map(write_map(tmp_path, slices("slices/*.png", *more), path="{product}_{serial}_{time:%Y%m%d%H%M%S}"))
    (image,) = machine.image
    assert (image.name, image.pixel_pair_um, image.z_um) == ("U1/lower", (11.5, 11.5), [5, 45, 85, 125, 165])
    assert machine.pattern.names == {"product", "serial", "time"}


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    wrong = slices("../other/*.png", "pixel_umm = 12", "z_um = [5, 45, 45]", 'polarity = "dark"')
    path = write_map(tmp_path, wrong, 'kind = "height_map"\nfiles = "h.tif"', path="{seral}")
    with pytest.raises(MapFault) as fault:
        load_map(path)
    for part in (
        "seral",
        "image[0].files",
        "pixel_umm",
        "such as pixel_um",
        "each height of z_um once",
        "polarity",
        "image[1]: expected stage",
    ):
        assert part in str(fault.value), part


@pytest.mark.parametrize(
    ("images", "board", "words"),
    [
        ([slices("a/*.png", "z_first_um = 5")], "", "z_step_um"),
        ([slices("a/*.png", "shape = [5, 6, 7]")], "", "shape and dtype together"),
        ([slices("a/*.png"), slices("b/*.png")], "", "one image of U1/lower"),
        ([slices("C:/a/*.png")], "", "inside the board's folder"),
        ([slices("/a/*.png")], "", "inside the board's folder"),
        ([slices("a/{what}.png")], "", "names in braces"),
        ([slices("a/*.png")], "colour = 3", "an unknown key"),
        ([slices("a/*.png")], "= 3", "TOML"),
        ([], "", "tables [[image]]"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, images: list[str], board: str, words: str) -> None:
    with pytest.raises(MapFault) as fault:
        load_map(write_map(tmp_path, *images, board=board))
    assert words in str(fault.value)
