"""Which joint files belong to which store: an identity in the database, and a marker with it in the folder of the files.

Before a store writes, merges or removes files, it finds its own marker there. A folder without the marker that an earlier
write left is another one: a share that is not mounted, a folder that was moved. A copy of the database has the identity, too,
but not the files: the marker names the database that they belong to, and a copy beside it may only read them.
"""

import json
import sqlite3
import uuid
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, select, text, update

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.inspection import DEFAULT_SAMPLE
from inspect_pop.store.engine import reading, translate_errors, writing
from inspect_pop.store.joint_files import JointFiles, LocalFiles
from inspect_pop.store.schema import boards, identity
from inspect_pop.store.types import parse_zone

__all__ = [
    "MARKER",
    "FilesOwner",
    "Marker",
    "StoreIdentity",
    "ensure_identity",
    "open_default_folder",
    "open_given_folder",
    "read_marker",
]

MARKER = "store.json"
_LOST = (
    "Mount the share, restore the folder from its copy, or correct files=. If the files are lost for good: "
    "inspect-pop compact --accept-lost-files."
)


@dataclass(frozen=True)
class Marker:
    """What the marker says.

    Attributes:
        store: The identity of the store.
        database: The database that the files belong to: its path, or server and name.
        folder: The folder's number in its file system; 0 where there is none. A copied folder has another one.
        began_empty: Whether the folder had no files when the marker was written. If not, files of before may be another store's.
    """

    store: str
    database: str
    folder: int = 0
    began_empty: bool = True


@dataclass(frozen=True)
class StoreIdentity:
    """Who a store is (`id`), the time zone of its days (None: that of each machine's clock), and its `verify_sample`.

    That is the number of joints of each board that passed and that a person looks at.
    """

    id: str
    time_zone: str | None = None
    verify_sample: int = DEFAULT_SAMPLE


def ensure_identity(engine: Engine, time_zone: str | None = None, verify_sample: int | None = None) -> StoreIdentity:
    """Return the store's identity; give it one if it has none, and time zone and sample where they are given and others.

    Raises `StoreFault`, and `UsageFault` for an unknown time zone or a sample below 0.
    """
    query = select(identity.c.id, identity.c.time_zone, identity.c.verify_sample)
    given = {"time_zone": time_zone, "verify_sample": verify_sample}
    given = {name: value for name, value in given.items() if value is not None}
    with reading(engine) as connection:
        found = connection.execute(query).first()
    if found is not None and all(getattr(found, name) == value for name, value in given.items()):
        return StoreIdentity(*found)
    if time_zone is not None:
        parse_zone(time_zone)
    if verify_sample is not None and verify_sample < 0:
        raise UsageFault("--verify-sample", expected="0 or more", found=str(verify_sample))
    with writing(engine, alone=True) as connection:
        if connection.execute(query).first() is None:
            connection.execute(insert(identity).values(id=uuid.uuid4().hex, has_marker=0))
        if given:
            connection.execute(update(identity).values(given))
        return StoreIdentity(*connection.execute(query).one())


def open_default_folder(engine: Engine, store: str, database: Path) -> LocalFiles:
    """Return the files beside a SQLite database.

    Raises `StoreFault` if they belong to another store: the database was then deleted or replaced.
    """
    older = LocalFiles(database.with_name(f"{database.stem}-files").absolute())
    chosen = older
    if database.suffix != ".db":
        name = f"{database.name}-files" if database.suffix else f"{database.name}.files"
        marker = read_marker(older)
        is_older = marker.store == store if marker else _has_unmarked_files(engine)
        chosen = older if is_older else LocalFiles(database.with_name(name).absolute())
    marker = read_marker(chosen)
    if marker is not None and marker.store != store:
        raise StoreFault(
            str(database),
            expected=f"the store whose joint files are in {chosen.where}",
            found="another database",
            remedy="Restore that database. To begin a new store, rename the folder, or give another name to the database.",
        )
    return chosen


def open_given_folder(store: str, files: LocalFiles) -> LocalFiles:
    """Return the files in a folder that the user gave; a folder of another store gets a subfolder for this one."""
    marker = read_marker(files)
    if marker is None or marker.store == store:
        return files
    return LocalFiles(files.base / f"store-{store[:12]}", older=files.base)


def read_marker(files: JointFiles) -> Marker | None:
    """Return the marker of some files; None if there is none. Raises `StoreFault` if it cannot be read."""
    with translate_errors(files.where):
        content = files.read_note(MARKER)
    if content is None:
        return None
    with suppress(ValueError, TypeError):
        return Marker(**json.loads(content))
    remedy = "Restore it from a copy; it says whose joint files these are."
    raise StoreFault(files.address(MARKER), expected="the marker of a store", found="another content", remedy=remedy)


class FilesOwner:
    """Checks that the files belong to this store before anything is written, merged or removed.

    Args:
        engine: The database.
        files: The files.
        store: The store's identity.
    """

    def __init__(self, engine: Engine, files: JointFiles, store: str) -> None:
        self._engine, self._files, self._store = engine, files, store
        self._seen: object = None

    def claim(self, *, accept_lost: bool = False) -> Marker:
        """Return this store's marker; write it if the store has never had one.

        Parameters
        ----------
        accept_lost
            Write a marker although an earlier one is gone, with its files.

        Raises
        ------
        StoreFault
            The files belong to another store, or to the database that this one is a copy of; or the folder is not the one of
            before.
        """
        state = self._files.read_state(MARKER)
        if state is not None and isinstance(self._seen, tuple) and self._seen[0] == state:
            marker: Marker = self._seen[1]
            return marker
        found = read_marker(self._files)
        marker = self._write_marker(accept_lost) if found is None else self._check_marker(found)
        self._seen = (self._files.read_state(MARKER), marker)
        return marker

    def _write_marker(self, accept_lost: bool) -> Marker:
        with reading(self._engine) as connection:
            database = _name_database(connection)
            had_marker = bool(connection.scalar(select(identity.c.has_marker)))
        where = self._files.where
        if had_marker and not accept_lost:
            found = read_marker(self._files)  # another process may have written it since this one looked
            if found is not None:
                return self._check_marker(found)
            raise StoreFault(where, expected=f"the store's joint files, with {MARKER}", found="none", remedy=_LOST)
        with translate_errors(where):
            is_empty = next(iter(self._files.list_files()), None) is None
            self._files.make_base()
            marker = Marker(self._store, database, self._files.folder_number, is_empty)
            self._files.write_note(MARKER, json.dumps(asdict(marker), indent=1), is_new=True)
        found = read_marker(self._files)
        with writing(self._engine) as connection:
            connection.execute(update(identity).values(has_marker=1))
        return marker if found is None else self._check_marker(found)

    def _check_marker(self, marker: Marker) -> Marker:
        where = self._files.where
        if marker.store != self._store:
            remedy = "Give this store a place of its own: files=."
            raise StoreFault(where, expected="joint files of this store", found="those of another store", remedy=remedy)
        with reading(self._engine) as connection:
            database = _name_database(connection)
            if database == marker.database and self._files.folder_number == marker.folder:
                return marker
            is_copied_folder = marker.folder != self._files.folder_number
            is_copy = database != marker.database and not is_copied_folder and _exists(connection, marker)
        if is_copy:
            remedy = "It may be read. To write, give the copy a copy of the files: files=."
            expected = f"the database that these files belong to, {marker.database}"
            raise StoreFault(where, expected=expected, found=f"a copy of it, {database}", remedy=remedy)
        moved = Marker(self._store, database, self._files.folder_number, marker.began_empty)
        with translate_errors(where):
            self._files.write_note(MARKER, json.dumps(asdict(moved), indent=1), is_new=False)
        return moved


def _has_unmarked_files(engine: Engine) -> bool:
    """Return whether a store of an earlier version, which knew no markers, wrote files."""
    with reading(engine) as connection:
        if connection.scalar(select(identity.c.has_marker)):
            return False
        return connection.scalar(select(boards.c.id).limit(1)) is not None


def _name_database(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        return str(Path(str(connection.engine.url.database)).resolve())
    query = "SELECT system_identifier || '/' || current_database() FROM pg_control_system()"
    return str(connection.scalar(text(query)))


def _exists(connection: Connection, marker: Marker) -> bool:
    """Return whether the marker's database, which is not this one, is still there."""
    return _exists_as_file(connection, marker) if connection.dialect.name == "sqlite" else _exists_on_server(connection, marker)


def _exists_on_server(connection: Connection, marker: Marker) -> bool:
    server, _, name = marker.database.partition("/")
    if server != _name_database(connection).partition("/")[0]:
        return False
    return connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}) is not None


def _exists_as_file(connection: Connection, marker: Marker) -> bool:
    other = Path(marker.database)
    try:
        if not other.is_file() or other.samefile(str(connection.engine.url.database)):
            return False
        with closing(sqlite3.connect(f"{other.as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT id FROM identity").fetchone()
    except (OSError, sqlite3.Error):
        return False
    return row is not None and row[0] == marker.store
