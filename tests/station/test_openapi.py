"""Whatever the OpenAPI page allows, and much that it does not, is answered as the page says, and never by a server error."""

import pytest

pytest.importorskip("schemathesis", reason="needs schemathesis")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from tests.station.conftest import Running

NOT_SAID = [positive_data_acceptance, ignored_auth]  # which boards there are; that this service knows no tokens
# Reading or removing needs nothing but a path: what is wrong with one is a header that a service without tokens does not look at.
NOT_SAID_OF_READING = [*NOT_SAID, negative_data_rejection]
OPERATIONS = [
    ("POST", "/v1/inspections"),
    ("POST", "/v1/boards/{serial}/decisions"),
    ("GET", "/v1/boards/{serial}"),
    ("GET", "/v1/reports/{record}"),
    ("GET", "/v1/quarantine"),
    ("POST", "/v1/quarantine/{number}/close"),
    ("POST", "/v1/model"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/v1/proof"),
    ("GET", "/v1/me"),
    ("GET", "/v1/queue"),
    ("GET", "/v1/records/{record}/windows/{joint}"),
    ("GET", "/v1/golden/{product}"),
    ("PUT", "/v1/golden/{product}"),
    ("DELETE", "/v1/golden/{product}"),
    ("GET", "/v1/records/{record}"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/disagreements"),
    ("GET", "/v1/machines"),
    ("GET", "/v1/machines/charts"),
    ("GET", "/v1/training"),
    ("POST", "/v1/training/promote"),
    ("POST", "/v1/training/rollback"),
]
NOT_TRIED = {("POST", "/v1/training/start"), ("POST", "/v1/training/cancel")}  # would train; takes every caller without tokens


def test_every_operation_of_the_page_is_tried(patient: Running) -> None:
    paths = patient.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == set(OPERATIONS) | NOT_TRIED


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("examples", [15, pytest.param(500, marks=pytest.mark.long)])
def test_no_server_error(patient: Running, method: str, path: str, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{patient.url}/openapi.json")
    operation = schema[path][method]

    @given(
        case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    )
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    def answers(case: Case) -> None:
        case.call_and_validate(timeout=60, excluded_checks=NOT_SAID if method in {"POST", "PUT"} else NOT_SAID_OF_READING)

    answers()
