"""The tables of joint classes and of process causes.

The order is that of the classifier's outputs. The first class is the one that may pass.
"""

from dataclasses import dataclass

__all__ = ["CAUSES", "CLASSES", "DEFECTS", "GOOD", "JOINT_CLASSES", "VERDICTS", "JointClass", "joint_class"]


@dataclass(frozen=True)
class JointClass:
    """One class of joint.

    Attributes:
        name: The name in records, labels and columns, such as `head_in_pillow`.
        words: The name in running text.
        heading: The name over a narrow column.
        precedence: A joint that shows two classes is labelled with the one of the smaller number (`labels.csv`).
        colour, letter, outline: How pages mark it. Colours are Okabe and Ito's (Color Universal Design, 2008). The outline
            is an SVG path of radius about 10; with it, colour is never the only sign.
        cfx_code, cfx_category: `DefectCode` and `DefectCategory` in IPC-2591 CFX messages. The standard's categories
            have no open and no head-in-pillow.
        chance: Share among defects that have no common cause; 0 for `good`.
        events: Independent events per defective joint; below 1 where one event makes several joints defective, as a bridge does.
        label_remedy: What to do if a labelled set has too few joints of the class.
    """

    name: str
    words: str
    heading: str
    precedence: int
    colour: str
    letter: str
    outline: str
    cfx_code: str
    cfx_category: str
    chance: float
    events: float
    label_remedy: str


_CIRCLE = "M0 -10A10 10 0 1 1 0 10A10 10 0 1 1 0 -10Z"

JOINT_CLASSES = (
    JointClass(
        name="good",
        words="good",
        heading="good",
        precedence=5,
        colour="#c9d1d6",
        letter="",
        outline=_CIRCLE,
        cfx_code="POP-DOUBT",
        cfx_category="Miscellaneous",
        chance=0.0,
        events=0.0,
        label_remedy="label more of what passes",
    ),
    JointClass(
        name="bridged",
        words="bridged",
        heading="bridged",
        precedence=1,
        colour="#c24a00",
        letter="B",
        outline="M-10 -10H10V10H-10Z",
        cfx_code="POP-BRIDGED",
        cfx_category="Short",
        chance=0.19,
        events=0.5,
        label_remedy="they are the easiest to simulate: add a simulated batch with excess paste",
    ),
    JointClass(
        name="open",
        words="open",
        heading="open",
        precedence=2,
        colour="#0067a8",
        letter="O",
        outline="M-5.5 -11H5.5L11 -5.5V5.5L5.5 11H-5.5L-11 5.5V-5.5Z",
        cfx_code="POP-OPEN",
        cfx_category="SolderDefect",
        chance=0.27,
        events=1.0,
        label_remedy="add a simulated batch, or keep boards that failed electrically",
    ),
    JointClass(
        name="starved",
        words="starved",
        heading="starved",
        precedence=4,
        colour="#e0a100",
        letter="S",
        outline="M-12.5 -10H12.5L0 13Z",
        cfx_code="POP-STARVED",
        cfx_category="InsufficientSolder",
        chance=0.27,
        events=1.0,
        label_remedy="add a simulated batch with insufficient paste",
    ),
    JointClass(
        name="head_in_pillow",
        words="head-in-pillow",
        heading="HiP",
        precedence=3,
        colour="#a8578a",
        letter="H",
        outline="M0 -14L14 0L0 14L-14 0Z",
        cfx_code="POP-HEAD-IN-PILLOW",
        cfx_category="SolderDefect",
        chance=0.27,
        events=1.0,
        label_remedy="add a simulated batch with warpage; real ones need a cross-section or a pull test to be sure",
    ),
)

CLASSES = tuple(c.name for c in JOINT_CLASSES)
GOOD = CLASSES[0]
DEFECTS = CLASSES[1:]
VERDICTS = ("pass", "fail", "review")
_BY_NAME = {c.name: c for c in JOINT_CLASSES}


def joint_class(name: str) -> JointClass:
    """Look up a class by name. Raises `KeyError` for a name that is not in the table."""
    return _BY_NAME[name]


# The process causes that a diagnosis can name and a simulated board can have; `none` first.


CAUSES = (
    "none",
    "warpage",
    "excess_paste",
    "insufficient_paste",
    "shallow_dip",
    "placement_offset",
    "oxidised_balls",
    "placement_force",
    "moisture",
)
