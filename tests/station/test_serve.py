"""The server's start and stop, its address file, and its logs."""

import json
import logging
from pathlib import Path

import pytest

from inspect_pop.core.errors import ModelFault, UsageFault
from inspect_pop.station.serve import JsonFormatter, listen, serve
from inspect_pop.station.settings import ServiceSettings
from tests.station.conftest import FACTORY, Running, running


def formatted(message: str, *arguments: object, **more: object) -> dict[str, object]:
    record = logging.LogRecord("logger", logging.WARNING, "f.py", 1, message, arguments, None)
    record.__dict__.update(more)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields: dict[str, object] = json.loads(line)
    return fields


def test_a_line_holds_message_level_logger_time_and_what_was_added() -> None:
    fields = formatted("a %s", "board\nand more", serial="Ω", path=object)
    assert (fields["message"], fields["level"], fields["logger"], fields["serial"]) == (
        "a board\nand more",
        "warning",
        "logger",
        "Ω",
    )
    assert str(fields["at"]).endswith("+00:00")


def test_an_exception_keeps_its_traceback() -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        fields = formatted("failed", exc_info=(type(error), error, error.__traceback__))
    assert "ValueError: odd" in str(fields["traceback"])


def test_a_service_leaves_its_address_only_while_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "records.db.service.json"
    with running(tmp_path) as service:
        assert service.url in file.read_text()
    assert not file.exists()


def test_a_service_whose_model_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    options = {
        "roots": (tmp_path,),
        "store": str(tmp_path / "r.db"),
        "port": 0,
        "workers": 1,
        "inspector_factory": FACTORY,
        "model": tmp_path / "empty",
    }
    with pytest.raises(ModelFault, match="model folder"):
        serve(ServiceSettings(**options))
    assert not (tmp_path / "r.db.service.json").exists()


def test_an_address_that_is_taken_is_refused(plain: Running, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageFault, match="an address to listen on"),
        listen(ServiceSettings(roots=(tmp_path,), store=str(tmp_path / "r.db"), port=plain.settings.port)),
    ):
        pass
