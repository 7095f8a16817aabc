"""The soak in its short form: faults one after the other, and nothing is lost or doubled."""

import sys
from pathlib import Path

import pytest

from tests.tools import load_script


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="measures processes by /proc")
def test_a_service_under_faults_loses_and_doubles_nothing(tmp_path: Path) -> None:
    soak = load_script("studies/soak.py")
    arguments = ["--minutes", "1", "--per-minute", "60", "--fault-every", "6", "--longest-fault", "2", "--period", "10"]
    result = soak.soak(soak.parse_options([*arguments, "--folder", str(tmp_path)]))
    assert result["faults"]
    assert result["compared"]["answered"] > 0
    assert result["is_whole"], result["compared"]
