"""KiCad footprints and boards."""

from pathlib import Path

import pytest

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.recipes.from_kicad import parse_expression, read_kicad
from tests.recipes.samples import board, footprint, shared


def write(folder: Path, text: str) -> Path:
    path = folder / "part.kicad_mod"
    path.write_text(text, encoding="utf-8")
    return path


def places(draft) -> dict[str, tuple[float, float]]:
    return {b: (round(float(x), 3), round(float(y), 3)) for b, x, y in zip(draft.ball, draft.x_um, draft.y_um, strict=True)}


def test_a_footprint_with_y_down(tmp_path: Path) -> None:
    (draft,) = read_kicad(write(tmp_path, footprint()))
    assert places(draft)["A1"] == (-800.0, 800.0)
    assert places(draft)["C1"] == (-800.0, -800.0)
    assert (len(draft.ball), draft.pitch_um, draft.pad_um, draft.ball_um) == (9, 800.0, 400.0, 400.0)
    assert draft.body_um == (3000.0, 3000.0)
    assert draft.pad_definition is None
    assert draft.notes == ()


@pytest.mark.parametrize(("margin", "pad", "definition"), [("-0.05", 300.0, "smd"), ("0.05", 400.0, "nsmd")])
def test_the_mask_defines_the_pad(tmp_path: Path, margin: str, pad: float, definition: str) -> None:
    (draft,) = read_kicad(write(tmp_path, footprint(f"(solder_mask_margin {margin}) ")))
    assert (draft.pad_um, draft.pad_definition) == (pad, definition)


def test_a_board_turns_its_parts_counter_clockwise(tmp_path: Path) -> None:
    (draft,) = read_kicad(write(tmp_path, board(90.0)))
    assert draft.refdes == "U7"
    assert places(draft)["A1"] == (-800.0, -800.0)
    assert draft.a1_corner == "lower_left"


def test_a_part_on_the_bottom_is_seen_from_there(tmp_path: Path) -> None:
    """KiCad stores a flipped part as seen through the board: its footprint's y is turned over."""
    flipped = board(0.0, "B.Cu")
    for r in range(3):
        flipped = flipped.replace(f" {(r - 1) * 0.8:g}) (size 0.4", f" {(1 - r) * 0.8:g}#) (size 0.4")
    (draft,) = read_kicad(write(tmp_path, flipped.replace("#", "")))
    assert "bottom" in draft.notes[0]
    assert draft.a1_corner == "lower_right", "not mirrored"


def test_a_part_that_is_not_there_and_a_board_without_arrays(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"U7 \(9 balls\)"):
        read_kicad(write(tmp_path, board()), "U9")
    with pytest.raises(UsageFault, match="Name the part"):
        read_kicad(write(tmp_path, board().replace('pad "A', 'pad "VDD_')))


@pytest.mark.parametrize("text", ["", "(a", "(a))", "a", "(a) (b)", '(a "b', "(kicad_sch)"])
def test_what_is_no_footprint(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeFault, match=r"S-expression|a KiCad footprint"):
        read_kicad(write(tmp_path, text or " "))


def test_lists_in_lists_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(RecipeFault, match="in one another"):
        read_kicad(write(tmp_path, "(" * 100 + ")" * 100))


def test_a_doubled_pad_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeFault, match="each pad once"):
        read_kicad(write(tmp_path, footprint().replace('"C3"', '"C2"')))


def test_words_and_quoted_texts() -> None:
    assert parse_expression(Path("x"), '(a "b \\"c\\" (d)" (e 1.5))') == ["a", 'b "c" (d)', ["e", "1.5"]]


@pytest.mark.parametrize(
    ("name", "balls", "pitch"),
    [
        ("BGA-200_10.0x14.5mm_Layout12x22_P0.80x0.65mm", 200, 650),
        ("BGA-256_17.0x17.0mm_Layout16x16_P1.0mm_Ball0.5mm_Pad0.4mm_NSMD", 256, 1000),
        ("BGA-81_4.496x4.377mm_Layout9x9_P0.4mm_Ball0.25mm_Pad0.2mm_NSMD", 81, 400),
        ("BGA-96_9.0x13.0mm_Layout2x3x16_P0.8mm", 96, 800),
        ("BGA484C100P22X22_2300X2300X244N", 484, 1000),
        ("Lattice_caBGA-381_17.0x17.0mm_Layout20x20_P0.8mm_Ball0.4mm_Pad0.6mm_SMD", 381, 800),
        ("UFBGA-132_7x7mm_P0.5mm", 132, 500),
    ],
)
def test_real_footprints(name: str, balls: int, pitch: float) -> None:
    (draft,) = read_kicad(shared(f"formats/cad/kicad/{name}.kicad_mod"))
    assert (len(draft.ball), draft.pitch_um, draft.a1_corner) == (balls, pitch, "upper_left")
    assert draft.notes == ()
    if "SMD" in name:
        assert draft.pad_definition == name.rpartition("_")[2].lower()
    if "caBGA" in name:
        assert draft.pad_um == 500.0


def test_a_real_board() -> None:
    drafts = {d.refdes: d for d in read_kicad(shared("formats/cad/kicad/OrangeCrab_r0.2.1.kicad_pcb"))}
    assert {name: (len(d.ball), d.pitch_um) for name, d in drafts.items()} == {"U3": (285, 500.0), "U4": (96, 800.0)}
