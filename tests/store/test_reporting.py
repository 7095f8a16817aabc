"""The reporting account of PostgreSQL reads records and sums, and nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from inspect_pop.store import open_store
from inspect_pop.store.schema import TABLES, VIEWS
from tests.factories import make_inspection

SCRIPT = Path(__file__).resolve().parents[2] / "deploy/postgresql/reporting.sql"
READS = {*VIEWS, "contexts", "rollups"}


@pytest.mark.postgresql
@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_reporting_account_reads_records_and_sums_and_changes_nothing(new_url: str) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not installed")
    with open_store(new_url) as store:
        store.write(make_inspection("S", defects={"U1.lower.A1": "open"}))
    owner = make_url(new_url)
    role = f"r{owner.database}"
    address = owner.set(drivername="postgresql").render_as_string()
    command = [psql, f"--dbname={address}", f"--set=reporter={role}", "--set=ON_ERROR_STOP=1", "--quiet", f"--file={SCRIPT}"]
    engine = create_engine(owner.set(username=role))
    try:
        for _ in range(2):  # again after an update
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        readable = set()
        for name in [*VIEWS, *(t.name for t in TABLES), "schema_migrations"]:
            with engine.connect() as connection:
                try:
                    connection.execute(text(f"SELECT * FROM {name}")).all()
                    readable.add(name)
                except ProgrammingError as error:
                    assert "permission denied" in str(error)
        assert readable == READS
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT serial FROM board_records")) == "S"
        tables = ("CREATE TABLE t (x int)", "CREATE TEMPORARY TABLE t (x int)")
        for change in ("DELETE FROM rollups", "DELETE FROM boards", "UPDATE contexts SET lot = 'x'", *tables):
            for setting in ("on", "off"):  # the account may write where it says so, but has nothing to write to
                with engine.connect() as connection, pytest.raises(Exception, match=r"permission denied|read-only"):
                    connection.execute(text(f"SET transaction_read_only = {setting}"))
                    connection.execute(text(change))
    finally:
        engine.dispose()
        admin = create_engine(owner, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))
        admin.dispose()
