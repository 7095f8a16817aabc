"""Stores to test against: a SQLite file, and a database of a private PostgreSQL server where one is installed."""

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from inspect_pop.store import Store, open_store


def _binary(name: str) -> str | None:
    """PostgreSQL's own programs lie outside the path on Debian."""
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
    return str(newest[-1]) if newest else shutil.which(name)


def _as_user(folder: Path) -> list[str]:
    """The server refuses to run as root: it then runs as postgres, or as nobody."""
    if os.geteuid() != 0:
        return []
    names = [entry.pw_name for entry in pwd.getpwall()]
    user = "postgres" if "postgres" in names else "nobody"
    shutil.chown(folder, user)
    return ["runuser", "-u", user, "--"]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A server of our own on a socket in a temporary folder; the SQLAlchemy URL without a database."""
    initdb, postgres = _binary("initdb"), _binary("pg_ctl")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path must be short, which pytest's are not
    folder.chmod(0o755)
    run = _as_user(folder)
    owner = run[2] if run else getpass.getuser()
    data = folder / "data"
    options = f"-c listen_addresses='' -k {folder} -c fsync=off -c max_connections=60"
    try:
        _call([*run, initdb, "-D", str(data), "-A", "trust", "-U", owner, "-E", "UTF8", "--no-sync"], folder)
        _call([*run, postgres, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start"], folder)
        yield f"postgresql+psycopg://{owner}@/%s?host={folder}"
    finally:
        subprocess.run([*run, postgres, "-D", str(data), "-m", "immediate", "stop"], capture_output=True, cwd=folder, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _call(command: list[str], folder: Path) -> None:
    # Output goes to a file: a server that inherits a pipe would keep it open, and the caller waiting.
    with (folder / "calls").open("ab") as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, check=False)
    if done.returncode:
        pytest.fail(f"{command}: {(folder / 'calls').read_text()}")


KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@contextmanager
def empty_database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The URL of an empty database of the kind that the fixture asks for; gone afterwards."""
    if request.param == "sqlite":
        yield str(folder / "records.db")
        return
    server = request.getfixturevalue("postgresql_server")
    name = f"t{uuid.uuid4().hex}"
    engine = create_engine(server % "postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server % name
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=KINDS)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of either kind."""
    with empty_database(request, tmp_path) as url:
        yield url


@pytest.fixture
def open_here(new_url: str, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the test's store, as another process would."""
    opened: list[Store] = []

    def open_again() -> Store:
        opened.append(open_store(new_url, files=tmp_path / "files"))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(open_here: Callable[[], Store]) -> Store:
    """An empty store."""
    return open_here()
