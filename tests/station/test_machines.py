"""The station's watch over machines: gauges, alarms, routes, and the qualified machines that its processes work by."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from inspect_pop.messages.cfx_schema import Envelope
from inspect_pop.station.contract import JudgingOptions, StationSetup, read_setup, write_setup
from inspect_pop.station.hook import StandaloneOptions, _configure_worker
from inspect_pop.station.routes import MachineWatch
from inspect_pop.store import Qualification, Store
from inspect_pop.yields.machines import BASELINE
from tests.factories import make_inspection
from tests.station.conftest import Running

PLAIN = make_inspection("S", side={"lower": 2})
QUALIFIED = Qualification(
    "A/1", "digest", "ipc-a-610", ("strict", "relaxed"), True, "Ada", "2026-03-01T00:00:00+00:00", (("Q1", "d1"),)
)


def write(store: Store, line: str, noise: np.ndarray, **board: object) -> None:
    """Boards of a machine, one a minute, with this noise."""
    for k, value in enumerate(noise.tolist()):
        at = f"2026-03-02T{k // 60:02d}:{k % 60:02d}:00+00:00"
        fields = {"record": f"{line}{k:031x}", "serial": f"{line}{k}", "line": line, "inspected_at": at, **board}
        store.write(replace(PLAIN, board=replace(PLAIN.board, pictures=json.dumps({"U1/lower": {"noise": value}}), **fields)))


def test_a_drift_sets_the_gauge_and_sends_one_alarm(service: Callable[..., Running]) -> None:
    running = service()
    rng = np.random.default_rng(0)
    with running.store() as store:
        write(store, "A", np.concatenate([rng.normal(1, 0.05, BASELINE), np.full(20, 2.0)]))
        write(store, "B", np.ones(1), unlike="U1/lower: noise 9 of learnt 1 to 2")
        write(store, "C", np.ones(1))
    station = running.server.station
    watch = MachineWatch(station)
    watch.look()
    watch.look()
    lines = httpx.get(f"{running.url}/metrics", timeout=60).text.splitlines()
    gauges = {line for line in lines if line.startswith("inspect_pop_machine_")}
    for name, value in (("A", "1.0"), ("B", "0.0"), ("C", "0.0")):
        assert f'inspect_pop_machine_drifting{{machine="{name}/AXI-1"}} {value}' in gauges
    assert 'inspect_pop_machine_unfamiliar{machine="B/AXI-1"} 1.0' in gauges
    MachineWatch(station).look()  # another process, or the same one after its restart
    with running.store() as store:
        (message,) = store.waiting()[1]
    fault = Envelope.model_validate_json(message.text).MessageBody.Fault  # type: ignore[union-attr]
    assert (message.kind, fault.Severity, fault.FaultCode) == (
        "CFX.ResourcePerformance.FaultOccurred",
        "Warning",
        "machine drifting",
    )
    assert (
        fault.Description is not None
        and fault.Description.startswith("A/AXI-1 drifts since 2026-03-02T00:")
        and "noise 2" in fault.Description
    )


def test_the_station_shows_its_machines(service: Callable[..., Running]) -> None:
    running = service()
    with running.store() as store:
        write(store, "A", np.ones(2))
    assert [m["state"] for m in running.get("/v1/machines").json()["machines"]] == ["known"]
    shown = running.get("/v1/machines/charts?name=A/AXI-1").json()
    assert (shown["machine"]["machine"], len(shown["of"]), shown["charts"][1]["value"]) == ("A/AXI-1", 2, [1.0, 1.0])
    assert running.get("/v1/machines/charts?name=nowhere").status_code == 404
    page = running.get("/machines")
    assert page.status_code == 200 and "machines.js" in page.text


def test_the_qualified_machines_of_the_store_count_from_the_next_start_on(
    service: Callable[..., Running], tmp_path: Path
) -> None:
    running = service()
    with running.store() as store:
        store.add_qualification(QUALIFIED)
    again = service(store=running.server.station.settings.store)
    expected = [["A/1", "digest", "strict"], ["A/1", "digest", "relaxed"]]
    assert again.server.station.settings.judging.qualified == expected


@pytest.mark.parametrize("options", [JudgingOptions(), JudgingOptions(profile="mine")])
def test_a_hook_without_the_service_takes_the_stations_qualified_machines(tmp_path: Path, options: JudgingOptions) -> None:
    store = str(tmp_path / "r.db")
    write_setup(store, StationSetup(JudgingOptions(qualified=[["A/1", "digest", "strict"]]), {"model": "digest"}))
    assert read_setup(store) is not None
    config = _configure_worker(str(tmp_path), store, StandaloneOptions(None, options), None)
    assert config["qualified"] == [["A/1", "digest", "strict"]]
    assert not JudgingOptions(qualified=[["A/1", "digest", "strict"]]).is_given()
