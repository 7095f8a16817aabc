"""Alert rules and dashboard: Prometheus takes them, they name metrics that the station has, and each alert fires."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inspect_pop.station.station import Metrics
from tests.station.conftest import REPO

MONITORING = REPO / "deploy" / "monitoring"
RULES = MONITORING / "inspect-pop-rules.yml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: Debian's package prometheus has it")


def run_promtool(*arguments: object) -> str:
    done = subprocess.run([str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dashboard_queries() -> list[str]:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return queries + [note["expr"] for note in dashboard["annotations"]["list"]]


def known_names() -> set[str]:
    """The names of all samples that the station exports, also of those that have no value yet."""
    names = {"up"}
    for family in Metrics().registry.collect():
        names |= {
            family.name + suffix
            for suffix in {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        }
    return names


def test_rules_and_dashboard_name_metrics_that_there_are() -> None:
    texts = [RULES.read_text(), *dashboard_queries()]
    used = {name for text in texts for name in re.findall(r"\binspect_pop_\w+", text)}
    assert len(used) >= 9
    assert used <= known_names()


@needs_promtool
def test_counters_begin_at_0_for_every_cause_so_that_the_first_event_is_an_increase() -> None:
    samples = [s for family in Metrics().registry.collect() for s in family.samples]
    causes = {s.labels["about"]: s.value for s in samples if s.name == "inspect_pop_quarantined_total"}
    verdicts = {s.labels["verdict"]: s.value for s in samples if s.name == "inspect_pop_verdicts_total"}
    assert {"image", "json", "recipe", "error"} <= causes.keys() and set(causes.values()) == {0}
    assert verdicts == {"pass": 0, "fail": 0, "review": 0, "error": 0}


def test_prometheus_takes_the_configuration_and_the_rules(tmp_path: Path) -> None:
    for path in MONITORING.glob("*.yml"):
        shutil.copy(path, tmp_path)
    run_promtool("check", "config", tmp_path / "prometheus.yml")


@needs_promtool
def test_prometheus_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    replaced = [q.replace("$__rate_interval", "1m").replace("$station", ".*") for q in dashboard_queries()]
    rules = [{"record": f"query:{k}", "expr": query} for k, query in enumerate(replaced)]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run_promtool("check", "rules", tmp_path / "queries.yml")


# What the station shows, one value per minute: with the fault, where the alert must fire, and at its limit, where it must not.
Series = dict[str, str]
FAULTS: dict[str, tuple[Series, Series]] = {
    "InspectPopDown": ({'up{job="inspect_pop"}': "0x40"}, {'up{job="inspect_pop"}': "1x40"}),
    "InspectPopStoreDown": ({"inspect_pop_store_up": "0x40"}, {"inspect_pop_store_up": "1x40"}),
    "InspectPopNoWorker": ({"inspect_pop_workers_alive": "0x40"}, {"inspect_pop_workers_alive": "1x40"}),
    "InspectPopQueueFull": ({"inspect_pop_queue_waiting": "5x40"}, {"inspect_pop_queue_waiting": "4x40"}),
    "InspectPopSlow": (
        {
            f'inspect_pop_inspection_seconds_bucket{{le="{le}"}}': v
            for le, v in (("5.0", "0x40"), ("10.0", "0+9x40"), ("+Inf", "0+9x40"))
        },
        {f'inspect_pop_inspection_seconds_bucket{{le="{le}"}}': "0+9x40" for le in ("5.0", "10.0", "+Inf")},
    ),
    "InspectPopQuarantine": ({"inspect_pop_quarantined_total": "0+1x40"}, {"inspect_pop_quarantined_total": "0x30 3x10"}),
    "InspectPopManyFails": (
        {f'inspect_pop_verdicts_total{{verdict="{v}"}}': step for v, step in (("pass", "0+3x40"), ("fail", "0+1x40"))},
        {f'inspect_pop_verdicts_total{{verdict="{v}"}}': step for v, step in (("pass", "0+5x40"), ("fail", "0+1x40"))},
    ),
    "InspectPopManyReviews": (
        {f'inspect_pop_verdicts_total{{verdict="{v}"}}': step for v, step in (("pass", "0+1x40"), ("review", "0+2x40"))},
        {f'inspect_pop_verdicts_total{{verdict="{v}"}}': step for v, step in (("pass", "0+1x40"), ("review", "0+1x40"))},
    ),
    "InspectPopMessagesWait": ({"inspect_pop_outbox_waiting": "101x40"}, {"inspect_pop_outbox_waiting": "100x40"}),
    "InspectPopMachineDrifting": (
        {'inspect_pop_machine_drifting{machine="A/AXI-1"}': "1x40"},
        {'inspect_pop_machine_drifting{machine="A/AXI-1"}': "0x40"},
    ),
    "InspectPopMachineUnfamiliar": (
        {'inspect_pop_machine_unfamiliar{machine="A/AXI-1"}': "1x40"},
        {'inspect_pop_machine_unfamiliar{machine="A/AXI-1"}': "0x40"},
    ),
    "InspectPopMessageSetAside": ({"inspect_pop_outbox_set_aside": "1x40"}, {"inspect_pop_outbox_set_aside": "0x40"}),
}


def count_alerts(name: str, series: Series, expected: int, folder: Path) -> None:
    """Let Prometheus run the rules over the series; `expected` is the number of alerts `name` after 35 minutes."""
    query = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    check = {"expr": query, "eval_time": "35m", "exp_samples": [{"labels": "{}", "value": expected}]}
    inputs = [{"series": key, "values": values} for key, values in series.items()]
    test = {"rule_files": [str(RULES)], "evaluation_interval": "1m"}
    test["tests"] = [{"interval": "1m", "input_series": inputs, "promql_expr_test": [check]}]
    path = folder / f"{name}.yml"
    path.write_text(json.dumps(test))  # JSON is YAML
    run_promtool("test", "rules", path)


def test_each_alert_has_a_series() -> None:
    assert set(re.findall(r"alert: (\w+)", RULES.read_text())) == set(FAULTS)


@needs_promtool
@pytest.mark.parametrize("name", FAULTS)
def test_an_alert_fires_for_its_fault_and_not_for_a_healthy_station(name: str, tmp_path: Path) -> None:
    fault, healthy = FAULTS[name]
    count_alerts(name, fault, 1, tmp_path)
    count_alerts(name, healthy, 0, tmp_path)
