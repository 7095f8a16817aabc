"""JSON documents: strict JSON, a declared model, and every fault of a document told at once."""

import json
import re
import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest.files import text_of

__all__ = ["Problem", "Strict", "as_faults", "as_one", "expected", "parse_json", "show", "validated"]

_TOLD_AT_MOST = 20  # a damaged list has a fault an entry; a message is read by a person
_PADDING = re.compile(r"^(Input|String|List) should (be |have |match )?| after validation, not .*$")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 2

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Text is text, numbers are numbers and finite; fields that this version does not know are left alone."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Problem:
    """One fault of a document: which field, what was expected there, what was found."""

    field: str
    expected: str
    found: str


def parse_json(path: Path, data: bytes, fault: type[InputFault]) -> dict[str, Any]:
    """The object in the bytes of the file `path`: UTF-8 JSON, with or without a byte order mark.

    Raises `fault` for what is no JSON, NaN and Infinity, a name given twice (which of the two was meant?), text that is
    not UTF-8, and nesting without end.
    """
    try:
        value = json.loads(text_of(path, data, fault), object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError as error:
        raise fault(str(path), expected="a JSON object", found="nesting too deep to be one") from error
    except ValueError as error:  # also numbers of more digits than Python converts
        raise fault(str(path), expected="JSON", found=str(error), remedy="Have the machine export the board again.") from error
    if not isinstance(value, dict):
        raise fault(str(path), expected="a JSON object", found=show(value))
    return value


def validated(model: type[Model], value: object, at: str = "") -> tuple[Model | None, list[Problem]]:
    """The value as a model, or None and every fault; `at` is where in the document it stands, such as `images[0]`."""
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        return None, [_problem(e["loc"], e["type"], e["msg"], e["input"], at) for e in error.errors(include_url=False)]


def expected(what: str) -> PydanticCustomError:
    """What a validator raises: the message says only what was expected; what was found is added by `validated`."""
    return PydanticCustomError("expected", "{what}", {"what": what})


def show(value: object) -> str:
    """A value in a message: shortened, with characters that do not print escaped."""
    return "null" if value is None else _SHORT.repr(value)


def as_faults(path: Path, problems: Sequence[Problem], fault: type[InputFault]) -> list[InputFault]:
    """One error a problem."""
    return [fault(f"{path}: {p.field}", expected=p.expected, found=p.found) for p in problems]


def as_one(path: Path, problems: Sequence[Problem], fault: type[InputFault]) -> InputFault:
    """One error for all problems of a document, each with its field, what was expected and what was found."""
    if len(problems) == 1:
        return as_faults(path, problems, fault)[0]
    told = [f"{p.field}: expected {p.expected}, found {p.found}" for p in problems[:_TOLD_AT_MOST]]
    more = f"; and {len(problems) - _TOLD_AT_MOST} more" if len(problems) > _TOLD_AT_MOST else ""
    return fault(f"{path}: {'; '.join(told)}{more}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ValueError(f"{show(twice)} given twice in one object")
    return value


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name}, which is no JSON number")


def _problem(loc: tuple[int | str, ...], kind: str, message: str, value: object, at: str) -> Problem:
    field = at
    for part in loc:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else str(part)
    if kind == "missing":
        return Problem(field, "a value", "nothing")
    return Problem(field or "document", _PADDING.sub("", message), show(value))
