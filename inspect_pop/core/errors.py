"""What can go wrong, drawn as one tree.

    PopError
    ├── InputFault            what came in cannot be used: the board goes to quarantine
    │   ├── FileFault         missing, unreadable, cut short, wrong checksum, too large
    │   ├── PathFault         a path that leaves the folder it must stay in
    │   ├── ManifestFault     export.json is not as the format says
    │   ├── ImageFault        pages, shape, dtype or grey values are not as declared
    │   ├── RecipeFault       the recipe is missing, impossible or empty
    │   ├── FrameFault        the package is not where the image can show it; alignment refused
    │   └── LabelsFault       labels.csv is not as the format says
    ├── ModelFault            a model folder is incomplete, changed, or of another version
    ├── LimitsFault           an unknown key, or a threshold outside its range
    ├── PromiseRefused        an operating point that the calibration joints cannot carry
    ├── StoreFault            the store cannot be read or written
    ├── BusyFault             the service has no room now; try again
    ├── DeadlinePassed        no answer in the time that was given
    └── UsageFault            arguments that cannot be used

Every one says which thing, what was expected, what was found, and what to do.
"""

__all__ = [
    "BusyFault",
    "DeadlinePassed",
    "FileFault",
    "FrameFault",
    "ImageFault",
    "InputFault",
    "LabelsFault",
    "LimitsFault",
    "ManifestFault",
    "ModelFault",
    "PathFault",
    "PopError",
    "PromiseRefused",
    "RecipeFault",
    "StoreFault",
    "UsageFault",
]


class PopError(Exception):
    """Base of all declared errors.

    Parameters
    ----------
    thing
        Which thing: a file, a field, a joint.
    expected, found
        What was expected of it and what was found. Both may be empty where the thing says it all.
    remedy
        What the reader can do about it.
    """

    about = "error"

    def __init__(self, thing: str, *, expected: str = "", found: str = "", remedy: str = "") -> None:
        self.thing, self.expected, self.found, self.remedy = thing, expected, found, remedy
        parts = [thing]
        if expected:
            parts.append(f"expected {expected}")
        if found:
            parts.append(f"found {found}")
        text = ": ".join(parts[:1]) + ("" if len(parts) == 1 else ": " + ", ".join(parts[1:]))
        super().__init__(f"{text}. {remedy}" if remedy else text)


class InputFault(PopError):
    """What came in cannot be used; the board goes to quarantine with this reason."""

    about = "input"


class FileFault(InputFault):
    """A file is missing, unreadable, cut short, too large, or not what its checksum says."""

    about = "file"


class PathFault(InputFault):
    """A path leaves the folder that it must stay in, by name or by link."""

    about = "path"


class ManifestFault(InputFault):
    """export.json is not as the export format says."""

    about = "json"


class ImageFault(InputFault):
    """Pages, shape, dtype or grey values of an image are not as declared."""

    about = "image"


class RecipeFault(InputFault):
    """The recipe is missing, impossible or empty."""

    about = "recipe"


class FrameFault(InputFault):
    """The package cannot be found where the image looks; alignment refuses rather than guesses."""

    about = "frame"


class LabelsFault(InputFault):
    """labels.csv is not as the export format says."""

    about = "labels"


class ModelFault(PopError):
    """A model folder is incomplete, was changed, or is of another version."""

    about = "model"


class LimitsFault(PopError):
    """An unknown key in a limits file, or a threshold outside its range."""

    about = "limits"


class PromiseRefused(PopError):
    """The calibration joints cannot carry the promise that was asked for."""

    about = "promise"


class StoreFault(PopError):
    """The store cannot be read or written."""

    about = "store"


class BusyFault(PopError):
    """No room for another inspection now."""

    about = "busy"


class DeadlinePassed(PopError):
    """No answer in the time that was given."""

    about = "deadline"


class UsageFault(PopError):
    """Arguments that cannot be used."""

    about = "usage"
