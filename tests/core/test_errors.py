"""Errors: one tree, and messages that name thing, expectation, finding and remedy."""

import pytest

from inspect_pop.core import errors
from inspect_pop.core.errors import FileFault, InputFault, PopError, describe_error


def test_all_errors_are_one_tree() -> None:
    public = [getattr(errors, name) for name in errors.__all__]
    tree = [error for error in public if isinstance(error, type)]
    assert len(tree) >= 16
    assert all(issubclass(error, PopError) for error in tree)
    assert len({error.about for error in tree}) == len(tree)
    assert all(error.__name__ in (errors.__doc__ or "") for error in tree)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "/x/y"), "No such file or directory"),
        (OSError("the share is away"), "the share is away"),
        (KeyError("token"), "no 'token'"),
        (ValueError("too many"), "too many"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_exception_is_described_without_number_or_path(error: Exception, text: str) -> None:
    assert describe_error(error) == text


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (FileFault("a.tif"), "a.tif"),
        (FileFault("a.tif", found="nothing"), "a.tif: found nothing"),
        (FileFault("a.tif", expected="a file", found="a folder"), "a.tif: expected a file, found a folder"),
        (FileFault("a.tif", expected="a file", remedy="Write it."), "a.tif: expected a file. Write it."),
    ],
)
def test_a_message_is_built_of_its_parts(fault: InputFault, text: str) -> None:
    assert str(fault) == text
