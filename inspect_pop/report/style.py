"""How pages show classes, verdicts and measurements: colour, shape, letter and words, from the tables in `core`.

The colours of the classes are Okabe and Ito's (Color Universal Design, 2008), which readers of every colour vision can tell
apart. Shape and letter say the same again, so that a black and white print loses nothing.
"""

from dataclasses import dataclass

from inspect_pop.core.classes import GOOD, JOINT_CLASSES
from inspect_pop.core.columns import COLUMNS, Display

__all__ = [
    "CLASS_LOOKS",
    "CONSTRUCTIONS",
    "DISPLAYS",
    "DISPOSITIONS",
    "MARK_RADIUS",
    "VERDICT_LOOKS",
    "ClassLook",
    "VerdictLook",
    "make_style",
]

# Browsers round very small fonts: marks are drawn this large and scaled down where they are placed.
MARK_RADIUS = 10
_INK, _PAPER = "#16202a", "#fff"


@dataclass(frozen=True)
class ClassLook:
    """How pages mark a joint.

    Attributes:
        name: Its class in the records, or `undecided`.
        words: The class as people read it.
        colour, letter, outline: The mark; the outline is an SVG path of radius about `MARK_RADIUS`.
        verdict: The verdict with which a legend shows the mark.
    """

    name: str
    words: str
    colour: str
    letter: str
    outline: str
    verdict: str

    @property
    def letter_colour(self) -> str:
        """The colour of the letter: dark on bright marks (luma of Rec. 601 above 140 of 255), white on others."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _PAPER


CLASS_LOOKS = {
    look.name: look
    for look in (
        *(ClassLook(c.name, c.words, c.colour, c.letter, c.outline, "pass" if c.name == GOOD else "fail") for c in JOINT_CLASSES),
        ClassLook("undecided", "for review", _INK, "?", JOINT_CLASSES[0].outline, "review"),
    )
}


@dataclass(frozen=True)
class VerdictLook:
    """How pages show a verdict: word, sign and colour (dark enough for white text at 4.5:1)."""

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

CONSTRUCTIONS = {
    "bga": "plain BGA",
    "standard": "standard PoP",
    "tmv": "through-mold vias",
    "exposed_die_tmv": "through-mold vias, exposed die",
    "psfccsp": "PSfcCSP (package-stackable flip-chip CSP)",
}

# The columns that pages show, in their order: those of a joint's card, other sizes and shares, and those with a sign.
DISPLAYS: dict[str, Display] = dict(
    sorted(
        ((c.name, c.display) for c in COLUMNS if c.display is not None),
        key=lambda item: (not item[1].strip, item[1].signed),
    )
)


def make_style() -> str:
    """Return the CSS that follows from the tables: a colour per verdict, and colours of mark and letter per class."""
    verdicts = " ".join(f"--{v.name}: {v.colour};" for v in VERDICT_LOOKS.values())
    classes = "\n".join(f".k-{c.name} {{ --c: {c.colour}; --letter: {c.letter_colour}; }}" for c in CLASS_LOOKS.values())
    return f":root {{ {verdicts} }}\n{classes}\n"
