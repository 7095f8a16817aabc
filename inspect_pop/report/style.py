"""How classes, verdicts and measurements look: colour, shape, letter and words, the same on every page.

Colours are Okabe and Ito's (Color Universal Design, 2008), told apart by readers of every colour vision; shape and
letter say the same once more, so that a black and white print loses nothing.
"""

from dataclasses import dataclass

__all__ = ["CLASS_LOOKS", "DISPOSITIONS", "MARK_RADIUS", "MEASURES", "VERDICT_LOOKS", "ClassLook", "Measure", "VerdictLook"]


# Browsers round very small fonts: marks are drawn this large and scaled down where they are placed.
MARK_RADIUS = 10


@dataclass(frozen=True)
class ClassLook:
    """One class of joint: name in the records, words, colour, letter, and its outline as SVG path (radius about 10)."""

    name: str
    words: str
    colour: str
    letter: str
    outline: str


CLASS_LOOKS = (
    ClassLook("good", "good", "#c9d1d6", "", "M0 -10A10 10 0 1 1 0 10A10 10 0 1 1 0 -10Z"),
    ClassLook("bridged", "bridged", "#c24a00", "B", "M-10 -10H10V10H-10Z"),
    ClassLook("open", "open", "#0067a8", "O", "M-5.5 -11H5.5L11 -5.5V5.5L5.5 11H-5.5L-11 5.5V-5.5Z"),
    ClassLook("starved", "starved", "#e0a100", "S", "M-12.5 -10H12.5L0 13Z"),
    ClassLook("head_in_pillow", "head-in-pillow", "#a8578a", "H", "M0 -14L14 0L0 14L-14 0Z"),
    ClassLook("undecided", "for review", "#ffffff", "?", "M0 -10A10 10 0 1 1 0 10A10 10 0 1 1 0 -10Z"),
)


@dataclass(frozen=True)
class VerdictLook:
    """One verdict: word, sign and colour (dark enough for white text at 4.5:1)."""

    name: str
    words: str
    sign: str
    colour: str


VERDICT_LOOKS = {
    v.name: v
    for v in (
        VerdictLook("pass", "Pass", "✓", "#1b6e3c"),
        VerdictLook("fail", "Fail", "✕", "#a3241c"),
        VerdictLook("review", "Review", "?", "#7a4f00"),
    )
}

DISPOSITIONS = {
    "ship": "Ship the board",
    "review": "A person decides before the board moves",
    "rework_memory": "Rework: take the memory package off",
    "rework_stack": "Rework: take the whole stack off",
}


@dataclass(frozen=True)
class Measure:
    """One measured column as pages name it: words, short words, unit, decimals, and whether 0 is its middle."""

    column: str
    words: str
    short: str
    unit: str
    decimals: int
    signed: bool = False


MEASURES = (
    Measure("volume_ratio", "volume / nominal", "volume", "", 2),
    Measure("diameter_um", "diameter, middle slice", "Ø middle", "µm", 0),
    Measure("diameter_low_um", "diameter, lower pad", "Ø lower pad", "µm", 0),
    Measure("diameter_high_um", "diameter, upper pad", "Ø upper pad", "µm", 0),
    Measure("void_fraction", "void area / ball area", "voids", "", 3),
    Measure("standoff_um", "stand-off", "stand-off", "µm", 0),
    Measure("clearance_um", "clearance to neighbour", "clearance", "µm", 0),
    Measure("waist", "waist (narrowest / widest)", "waist", "", 2),
    Measure("roundness", "roundness", "roundness", "", 2),
    Measure("grey", "grey / typical", "grey", "", 2),
    Measure("dx_um", "offset x", "offset x", "µm", 0, signed=True),
    Measure("dy_um", "offset y", "offset y", "µm", 0, signed=True),
    Measure("dome_um", "dome against neighbours", "dome", "µm", 0, signed=True),
    Measure("z_low", "robust z, lower pad", "z lower", "σ", 1, signed=True),
    Measure("z_mid", "robust z, middle", "z middle", "σ", 1, signed=True),
    Measure("z_high", "robust z, upper pad", "z upper", "σ", 1, signed=True),
    Measure("p_good", "probability of good", "p good", "", 3),
)
