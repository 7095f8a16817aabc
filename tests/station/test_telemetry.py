"""Logs: one JSON object a line, whatever is logged."""

import json
import logging

from inspect_pop.station.telemetry import JsonLines


def formatted(message: str, *arguments: object, **more: object) -> dict[str, object]:
    record = logging.LogRecord("here", logging.WARNING, "f.py", 1, message, arguments, None)
    record.__dict__.update(more)
    line = JsonLines().format(record)
    assert "\n" not in line
    told: dict[str, object] = json.loads(line)
    return told


def test_a_line_holds_message_level_logger_time_and_what_was_added() -> None:
    told = formatted("a %s", "board\nand more", serial="Ω", path=object)
    assert (told["message"], told["level"], told["logger"], told["serial"]) == ("a board\nand more", "warning", "here", "Ω")
    assert str(told["at"]).endswith("+00:00")


def test_an_exception_keeps_its_traceback() -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        told = formatted("failed", exc_info=(type(error), error, error.__traceback__))
    assert "ValueError: odd" in str(told["traceback"])
