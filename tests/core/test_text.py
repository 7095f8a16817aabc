"""Passwords are shown nowhere, and come from where no other account sees them."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inspect_pop.core.errors import PopError, StoreFault, UsageFault, make_printable
from inspect_pop.core.text import defuse_cell, hide_passwords, resolve_address, restore_cell
from inspect_pop.station.contract import identify_store
from inspect_pop.store.engine import database_url, hide_password

SECRET = "Hush-41"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://pop:{SECRET}@db/pop",
        f"postgresql://pop:a@{SECRET}@db:5432/pop?files=/x",
        f"postgresql://pop:/{SECRET}#?x@db/pop",
        f"postgresql://:{SECRET}@db/pop",
        f"postgresql://db/pop?user=pop&password={SECRET}",
        f"postgresql://db/pop?sslpassword={SECRET}&sslmode=require",
        f"postgresql://db/pop?PASSFILE=/{SECRET}",
        f"host=db password='{SECRET} x' user=pop",
        f"amqps://line:{SECRET}@broker/queue/cfx",
        f"s3://key:{SECRET}@bucket/joints",
        f"could not connect: https://u:{SECRET}@host/path (after 3 tries)",
    ],
)
def test_a_password_is_in_no_message(text: str) -> None:
    assert SECRET not in hide_passwords(text)
    for fault in (PopError(text), StoreFault("the store", found=text), UsageFault("--store", remedy=text)):
        assert SECRET not in str(fault)
        assert SECRET not in "".join((fault.thing, fault.expected, fault.found, fault.remedy))


@pytest.mark.parametrize("text", ["http://127.0.0.1:8737/readyz", "/exports/a@b", "sqlite:///records.db", "12 um: expected 3"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert hide_passwords(text) == text


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://pop:{SECRET}@db:notaport/pop",
        f"postgresql://pop:x@{SECRET}@db/pop",
        f"mysql://pop:{SECRET}@db/pop",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(StoreFault) as refused:
        database_url(address)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    for text in (address, f"postgresql://pop:{SECRET}@[db/pop"):
        identify_store(text)  # the hook compares it before anything is opened


def test_a_usable_address_is_shown_without_its_passwords() -> None:
    shown = hide_password(database_url(f"postgresql://pop@db/pop?password={SECRET}&sslpassword={SECRET}"))
    assert SECRET not in shown
    assert "db/pop" in shown


def test_a_store_is_the_same_whatever_its_password_and_another_one_elsewhere() -> None:
    same = {identify_store(a) for a in ("postgresql://a:x@db/pop", "postgresql://a:y/#@DB/pop", "postgresql://db/pop?password=z")}
    assert len(same) == 1
    assert len({identify_store(f"postgresql:///pop?host={host}") for host in ("a", "b")}) == 2


def test_an_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECORDS", str(tmp_path / "r.db"))
    assert resolve_address("env:RECORDS") == str(tmp_path / "r.db")
    assert database_url("env:RECORDS").database == str(tmp_path / "r.db")
    assert identify_store("env:RECORDS") == identify_store(str(tmp_path / "r.db"))
    monkeypatch.setenv("RECORDS", "")
    with pytest.raises(UsageFault, match="environment variable RECORDS"):
        database_url("env:RECORDS")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_password_does_not_stay_in_the_list_of_processes() -> None:
    code = (
        "import sys; from inspect_pop.core.text import hide_arguments; hide_arguments(sys.argv[1:]);"
        "print(open('/proc/self/cmdline').read().replace(chr(0), ' '))"
    )
    address = f"postgresql://pop:{SECRET}@db/pop"
    done = subprocess.run(
        [sys.executable, "-c", code, "--store", address, f"--cfx={address}", "x y"], capture_output=True, text=True, check=True
    )
    assert SECRET not in done.stdout
    assert "--store postgresql://pop:***@db/pop" in done.stdout
    assert done.stdout.rstrip().endswith("x y")


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1b[31mb", "a\u202eb", "a\x00b", "a\u2028b", "a\ud800b"])
def test_a_message_is_one_printable_line_whatever_a_name_holds(name: str) -> None:
    assert str(PopError(f"/exports/{name}", found=name)).isprintable()


def test_names_of_any_alphabet_stay_readable() -> None:
    name = "Ω 基板 é\u00a0µm"
    assert make_printable(name) == name


@given(st.text())
def test_what_is_made_safe_for_a_spreadsheet_is_read_back(text: str) -> None:
    assume(not (text.startswith("'") and defuse_cell(text[1:]) == text))  # such a text cannot be told from one that was made safe
    assert restore_cell(defuse_cell(text)) == text
