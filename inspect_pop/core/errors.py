"""The tree of errors.

    PopError
    ├── InputFault            an input cannot be used: the board goes to quarantine
    │   ├── FileFault         missing, unreadable, truncated, too large, or its checksum differs
    │   ├── PathFault         a path leads out of the folder that it must stay in
    │   ├── ManifestFault     export.json violates the export format
    │   ├── ImageFault        pages, shape, dtype or grey values differ from what is declared
    │   ├── RecipeFault       the recipe is missing, impossible or empty
    │   ├── FrameFault        the package cannot be found in an image
    │   ├── LabelsFault       labels.csv violates the export format
    │   └── MapFault          the map of a machine's files is faulty
    ├── ModelFault            a model folder is incomplete, changed, or of another version
    ├── LimitsFault           an unknown key, or a threshold outside its range
    ├── PromiseFault          the calibration set is too small to guarantee this rate
    ├── StoreFault            the store cannot be read or written
    ├── ConflictFault         another person decided meanwhile: look again
    │   └── SupersededFault   the board was inspected again meanwhile
    ├── StageFault            what one stage of the verification may not decide
    ├── BusyFault             the service is busy; try again later
    ├── DeadlineFault         no answer before the deadline
    └── UsageFault            arguments that cannot be used

Every error names the thing, what was expected, what was found, and what to do. It shows no password, and is one printable line
whatever the names of files hold.
"""

from inspect_pop.core.text import hide_passwords

__all__ = [
    "BusyFault",
    "ConflictFault",
    "DeadlineFault",
    "FileFault",
    "FrameFault",
    "ImageFault",
    "InputFault",
    "LabelsFault",
    "LimitsFault",
    "ManifestFault",
    "MapFault",
    "ModelFault",
    "PathFault",
    "PopError",
    "PromiseFault",
    "RecipeFault",
    "StageFault",
    "StoreFault",
    "SupersededFault",
    "UsageFault",
    "describe_error",
    "make_printable",
]

_SPACES = "\u00a0\u2009\u202f\u3000"  # of typography and of East Asian names: they print as a space


def make_printable(text: str) -> str:
    r"""Return a text in which line ends and other signs that do not print are escaped, such as `\n`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _SPACES else ascii(c)[1:-1] for c in text)


def describe_error(error: BaseException) -> str:
    """Return an exception in words, without the path and the number that the operating system's errors carry."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"no {error}"
    return str(error) or type(error).__name__


class PopError(Exception):
    """Base of all declared errors.

    Parameters
    ----------
    thing
        The thing that is wrong: a file, a field, a joint.
    expected, found
        What was expected of it and what was found. Both may be empty where `thing` says it all.
    remedy
        What the reader can do about it, as a sentence.
    """

    about = "error"

    def __init__(self, thing: str, *, expected: str = "", found: str = "", remedy: str = "") -> None:
        thing, expected, found, remedy = (make_printable(hide_passwords(part)) for part in (thing, expected, found, remedy))
        self.thing, self.expected, self.found, self.remedy = thing, expected, found, remedy
        parts = [thing]
        if expected:
            parts.append(f"expected {expected}")
        if found:
            parts.append(f"found {found}")
        text = ": ".join(parts[:1]) + ("" if len(parts) == 1 else ": " + ", ".join(parts[1:]))
        super().__init__(f"{text}. {remedy}" if remedy else text)


class InputFault(PopError):
    """An input cannot be used; the board goes to quarantine with this reason."""

    about = "input"


class FileFault(InputFault):
    """A file is missing, unreadable, truncated, too large, or its checksum differs."""

    about = "file"


class PathFault(InputFault):
    """A path leads out of the folder that it must stay in, by name or by link."""

    about = "path"


class ManifestFault(InputFault):
    """export.json violates the export format."""

    about = "json"


class ImageFault(InputFault):
    """Pages, shape, dtype or grey values of an image differ from what is declared."""

    about = "image"


class RecipeFault(InputFault):
    """The recipe is missing, impossible or empty."""

    about = "recipe"


class FrameFault(InputFault):
    """The package cannot be found in an image; alignment refuses rather than guesses."""

    about = "frame"


class LabelsFault(InputFault):
    """labels.csv violates the export format."""

    about = "labels"


class MapFault(InputFault):
    """The map of a machine's files is faulty; the message names every faulty field."""

    about = "map"


class ModelFault(PopError):
    """A model folder is incomplete, was changed, or is of another version."""

    about = "model"


class LimitsFault(PopError):
    """An unknown key in a limits file, or a threshold outside its range."""

    about = "limits"


class PromiseFault(PopError):
    """The calibration set is too small to guarantee the error rates that were requested."""

    about = "promise"


class StoreFault(PopError):
    """The store cannot be read or written."""

    about = "store"


class ConflictFault(PopError):
    """Another person decided about the same joint after the caller had looked at it."""

    about = "conflict"


class SupersededFault(ConflictFault):
    """The joint was inspected again after the caller had looked at it."""

    about = "superseded"


class StageFault(PopError):
    """A stage of the verification may not decide this: the operator does not overrule the repair station."""

    about = "stage"


class BusyFault(PopError):
    """The service has no capacity for another inspection now."""

    about = "busy"


class DeadlineFault(PopError):
    """No answer came before the deadline."""

    about = "deadline"


class UsageFault(PopError):
    """Arguments that cannot be used."""

    about = "usage"
