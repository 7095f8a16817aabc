"""The inspecting process by itself: what it keeps out."""

from importlib.util import module_from_spec

import pytest

from inspect_pop.station.worker import _Unneeded


def test_a_fresh_process_imports_neither_pandas_nor_the_translator_of_fortran() -> None:
    finder = _Unneeded()
    with pytest.raises(ModuleNotFoundError, match="inspecting process"):
        finder.find_spec("pandas")
    spec = finder.find_spec("numpy.f2py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert [name for name in vars(module) if not name.startswith("__")] == []
    assert finder.find_spec("numpy.linalg") is None
