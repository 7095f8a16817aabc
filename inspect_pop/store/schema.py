"""The store's tables, declared once, for SQLite and PostgreSQL.

Everything about a table is declared here: types, keys, indexes. The columns of classes, of joint measurements and of their
aggregates follow from `inspect_pop.core.classes` and `inspect_pop.core.columns`. Statements and DDL follow from the tables;
`inspect_pop.store.engine` creates them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    select,
    text,
)

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.columns import AGGREGATES, column, list_stored_columns
from inspect_pop.core.inspection import DEFAULT_SAMPLE

__all__ = [
    "AGGREGATE_COLUMNS",
    "COUNT_COLUMNS",
    "LABEL_COUNTS",
    "MEASURED_COLUMNS",
    "METADATA",
    "OUTCOME_COLUMNS",
    "SUM_COLUMNS",
    "TABLES",
    "VERSION",
    "VIEWS",
    "audit",
    "boards",
    "contexts",
    "decisions",
    "defects",
    "digests",
    "files",
    "identity",
    "interfaces",
    "login_failures",
    "messages",
    "packages",
    "positions",
    "qualifications",
    "quarantine",
    "queue",
    "recipes",
    "rollups",
    "runs",
    "samples",
    "schema_migrations",
    "sessions",
    "sites",
    "users",
]

VERSION = 3

LABEL_COUNTS = tuple(f"n_{c}" for c in (*CLASSES, "undecided"))  # each joint counts in one of these
COUNT_COLUMNS = (*LABEL_COUNTS, "n_review", "n_rejected")
OUTCOME_COLUMNS = ("final", "n_confirmed", "n_false_calls", "n_cleared", "n_escapes", "verified_passed")
SUM_COLUMNS = (
    *("boards", "passed", "joints", "opportunities", "reinspected", "final_passed", "pending"),
    *COUNT_COLUMNS,
    *OUTCOME_COLUMNS[1:],
)
MEASURED_COLUMNS = list_stored_columns()
AGGREGATE_COLUMNS = tuple(a.name for a in AGGREGATES)

METADATA = MetaData()
_KINDS: Mapping[str, Any] = {"text": Text, "float32": Double, "int64": BigInteger}


def _identity(name: str = "id") -> Column[int]:
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True)


def _key(name: str, refers_to: str = "") -> Column[Any]:
    """Return a column of a primary key: text, or the number of a row of another table."""
    if refers_to:
        return Column(name, BigInteger, ForeignKey(refers_to), primary_key=True, autoincrement=False)
    return Column(name, Text, primary_key=True)


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


def _text_or_null(name: str, *foreign_key: ForeignKey) -> Column[str]:
    return Column(name, Text, *foreign_key)


def _integer(name: str, kind: type[Integer] = Integer) -> Column[int]:
    return Column(name, kind, nullable=False)


def _reference(name: str, refers_to: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, ForeignKey(refers_to), nullable=nullable)


def _double(name: str) -> Column[float]:
    return Column(name, Double)


def _counts(*names: str, kind: type[Integer] = Integer) -> Iterator[Column[int]]:
    """Yield columns of counts. Their default lets a later version add one for a new class."""
    for name in names:
        yield Column(name, kind, nullable=False, server_default=text("0"))


# Tables without a number of their own are stored in the order of their key (SQLite: WITHOUT ROWID).
_CLUSTERED: dict[str, Any] = {"sqlite_with_rowid": False}

# What many boards share, stored once. Yield groups are formed here: a group of 100,000 boards joins a few hundred rows.
contexts = Table(
    "contexts",
    METADATA,
    _identity(),
    _text("key", unique=True),
    _text("day"),
    _text("product"),
    _text_or_null("lot"),
    _text_or_null("work_order"),
    _text("line"),
    _text("station"),
    _text("recipe"),
    _integer("recipe_revision"),
)
recipes = Table("recipes", METADATA, _identity(), _text("digest", unique=True))
digests = Table(
    "digests",
    METADATA,
    _identity(),
    _text("key", unique=True),
    _reference("recipe_id", "recipes.id"),
    _text("model_digest"),
    _text("limits_digest"),
    _text("software"),
)
sites = Table(
    "sites",
    METADATA,
    _identity(),
    _text("key", unique=True),
    _text("refdes"),
    _text("part"),
    _text("construction"),
    _double("warpage_limit_um"),
)

# Every ball that a recipe expects, and its place once a board has shown it.
positions = Table(
    "positions",
    METADATA,
    _key("recipe_id", "recipes.id"),
    _key("refdes"),
    _key("interface"),
    _key("ball"),
    _double("x_um"),
    _double("y_um"),
    **_CLUSTERED,
)
runs = Table(
    "runs",
    METADATA,
    _key("id"),
    _text("command"),
    _text("arguments"),
    _text("software"),
    _text("started_at"),
    _text_or_null("finished_at"),
    _text_or_null("outcome"),
)

# Merged files of joints.
files = Table(
    "files", METADATA, _identity(), _text("path", unique=True), _text("day"), _text_or_null("lot"), _integer("n_boards")
)

# One row per inspection. `extra` is JSON of the record's fields that have no column.
# The joints of a record are in a file of that record alone, whose name follows from the record (`has_record_file` is 1), in
# the merged file `file_id`, or in none.
# `first_id` names the board: its first inspection. `decides` is 0 for an inspection that saw no joint, as of a height map.
# `n_inspections`, the number of the last inspection that decides, and the outcome are about the board as a whole, and valid on
# its first inspection only.
boards = Table(
    "boards",
    METADATA,
    _identity(),
    _text("record", unique=True),
    _text("serial"),
    _text_or_null("panel"),
    Column("position", Integer),
    _text_or_null("operator"),
    _reference("context_id", "contexts.id"),
    _reference("digests_id", "digests.id"),
    _integer("has_record_file"),
    _reference("file_id", "files.id", nullable=True),
    _text_or_null("run_id", ForeignKey("runs.id")),
    _text("export_digest"),
    _text("inspected_at"),
    _integer("inspected_us", BigInteger),
    _text("started_at"),
    _text("finished_at"),
    _text("verdict"),
    _integer("n_joints"),
    *_counts(*COUNT_COLUMNS),
    _integer("n_packages"),
    Column("fpy", Double, nullable=False),
    Column("dpmo", Double, nullable=False),
    _text_or_null("cause"),
    _text("cause_evidence"),
    _text("disposition"),
    _text("missing"),
    _text("extra"),
    Column("decides", Integer, nullable=False, server_default=text("1")),
    _integer("inspection_no"),
    _reference("first_id", "boards.id", nullable=True),
    _integer("n_inspections"),
    _text("final"),
    *_counts(*OUTCOME_COLUMNS[1:]),
    Index("boards_serial", "serial"),
    Index("boards_first", "first_id", "inspection_no"),
    Index("boards_context", "context_id", "inspected_us"),
)

# `package_index` is the package's place in the recipe.
packages = Table(
    "packages",
    METADATA,
    _key("board_id", "boards.id"),
    _key("site_id", "sites.id"),
    _integer("package_index"),
    _double("offset_x_um"),
    _double("offset_y_um"),
    _double("rotation_deg"),
    _double("warpage_um"),
    _double("stack_height_um"),
    _text_or_null("cause"),
    _text("cause_evidence"),
    _text("extra"),
    **_CLUSTERED,
)
interfaces = Table(
    "interfaces",
    METADATA,
    _key("board_id", "boards.id"),
    _key("interface"),
    _key("site_id", "sites.id"),
    *_counts(*COUNT_COLUMNS),
    _integer("passed"),
    *(_double(n) for n in AGGREGATE_COLUMNS),
    _text("final"),
    *_counts(*OUTCOME_COLUMNS[1:]),
    **_CLUSTERED,
)

# Every joint that is not both good and pass.
defects = Table(
    "defects",
    METADATA,
    _key("board_id", "boards.id"),
    _key("refdes"),
    _key("interface"),
    _key("ball"),
    _text_or_null("label"),
    _text("verdict"),
    _text("reason"),
    *(Column(n, _KINDS[column(n).kind]) for n in MEASURED_COLUMNS),
    _integer("flags", BigInteger),
    **_CLUSTERED,
)

# What people decided about single joints. Rows are never changed; a later decision follows an earlier one.
decisions = Table(
    "decisions",
    METADATA,
    _identity(),
    _text("key", unique=True),
    _reference("board_id", "boards.id"),
    _text("refdes"),
    _text("interface"),
    _text("ball"),
    _text("state"),
    _text_or_null("label"),
    _text("decided_by"),
    _text("decided_at"),
    _integer("decided_us", BigInteger),
    _text("note"),
    Column("stage", Text, nullable=False, server_default=text("'operator'")),
    Index("decisions_board", "board_id"),
)

# The joints that passed and that a person looks at, too.
samples = Table("samples", METADATA, _key("board_id", "boards.id"), _key("refdes"), _key("interface"), _key("ball"), **_CLUSTERED)

# What is left to decide, a row per board that has suspects, sample joints or decisions: of its latest inspection that decides.
# `board_id` is the board's first inspection. `rank` puts fail (0) before review (1) and pass (2). `worst` is the smallest
# probability of good among the suspects. The indexes hold the boards that wait, in the order in which they are shown.
queue = Table(
    "queue",
    METADATA,
    _key("board_id", "boards.id"),
    _reference("latest_id", "boards.id"),
    _integer("rank"),
    *_counts("n_fail", "n_review", "n_undecided", "n_sample", "n_sample_undecided"),
    Column("worst", Double, nullable=False),
    *_counts("waits_operator", "waits_repair"),
    **_CLUSTERED,
)
for _stage in ("operator", "repair"):
    _waits = queue.c[f"waits_{_stage}"] == 1
    Index(
        f"queue_{_stage}",
        *(queue.c.rank, queue.c.n_undecided.desc(), queue.c.worst, queue.c.board_id),
        sqlite_where=_waits,
        postgresql_where=_waits,
    )
quarantine = Table(
    "quarantine",
    METADATA,
    _key("key"),
    _text("path"),
    _text("reason"),
    _text_or_null("run_id", ForeignKey("runs.id")),
    _text("seen_at"),
    _text_or_null("serial"),
    _text_or_null("content"),
    _text_or_null("closed_at"),
    _text_or_null("closed_by"),
    _text_or_null("note"),
)

# One row: who the store is, whether its marker is with the joint files, in which time zone its days are, and how many joints that
# passed a person looks at on each board.
identity = Table(
    "identity",
    METADATA,
    _key("id"),
    _integer("has_marker"),
    _text_or_null("time_zone"),
    Column("verify_sample", Integer, nullable=False, server_default=text(str(DEFAULT_SAMPLE))),
)

# Sums over first inspections by context and level, updated by every write. A name that the level does not have is empty.
rollups = Table(
    "rollups",
    METADATA,
    _key("context_id", "contexts.id"),
    *(_key(n) for n in ("level", "refdes", "part", "construction", "interface")),
    *_counts(*SUM_COLUMNS, kind=BigInteger),
    **_CLUSTERED,
)

# The outbox: messages for the line's systems, until they are delivered and after.
messages = Table(
    "messages",
    METADATA,
    _identity("seq"),
    _text("id", unique=True),
    _text_or_null("record"),
    _text("kind"),
    _text("payload"),
    _text("created_at"),
    _text_or_null("delivered_at"),
    _integer("attempts"),
    _text_or_null("claimed_by"),
    Column("claimed_until_us", BigInteger),
    _text_or_null("last_error"),
    _text_or_null("set_aside_at"),
)
Index(
    "messages_waiting",
    messages.c.seq,
    sqlite_where=messages.c.delivered_at.is_(None),
    postgresql_where=messages.c.delivered_at.is_(None),
)

# People who log in. `secret` is the password's digest with the parameters that made it. A user is never deleted.
users = Table(
    "users",
    METADATA,
    _identity(),
    _text("name", unique=True),
    _text("role"),
    _text("secret"),
    _text_or_null("language"),
    _text("created_at"),
    _text_or_null("disabled_at"),
)
# `digest` is that of the cookie: who reads the store cannot take over a session.
sessions = Table(
    "sessions",
    METADATA,
    _key("digest"),
    _reference("user_id", "users.id"),
    _text("csrf"),
    _integer("begun_us", BigInteger),
    _integer("seen_us", BigInteger),
    Index("sessions_user", "user_id"),
)
# Wrong passwords by `name:…` and `address:…`, and until when no further one is looked at.
login_failures = Table(
    "login_failures",
    METADATA,
    _key("key"),
    _integer("n"),
    _integer("last_us", BigInteger),
    _integer("until_us", BigInteger),
    Index("login_failures_last", "last_us"),
)
# Who did what, and when: rows are added and nothing else; the database itself refuses a change. `before` and `after` are JSON.
audit = Table(
    "audit",
    METADATA,
    _identity(),
    _text("at"),
    _integer("at_us", BigInteger),
    _text("who"),
    _text("action"),
    _text("subject"),
    _text("before"),
    _text("after"),
    Index("audit_at", "at_us"),
)

# Whether a machine's labelled boards passed the gates: a row per attempt, the last one of a machine, model and limits counts.
# `limits_digests`, `boards` and `figures` are JSON (`store.accounts`).
qualifications = Table(
    "qualifications",
    METADATA,
    _identity(),
    _text("machine"),
    _text("model_digest"),
    _text("profile"),
    _text("limits_digests"),
    _integer("passed"),
    _text("qualified_by"),
    _text("qualified_at"),
    _text("boards"),
    _text("figures"),
)

TABLES: tuple[Table, ...] = tuple(METADATA.sorted_tables)

# The history of the schema: a row per step of `migrate`.
schema_migrations = Table(
    "schema_migrations",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("name"),
    _text("applied_at"),
    _integer("version"),
    _text("digest"),
)


def _declare_views() -> dict[str, Select[Any]]:
    """Return the views that put names in the place of numbers, for people: one per table of a record's parts."""
    b, c, d, s = boards.c, contexts.c, digests.c, sites.c
    first = boards.alias("first")
    board = select(
        b.id.label("board_id"),
        *(b[n] for n in ("record", "serial", "panel", "position")),
        *(c[n] for n in ("product", "lot", "work_order", "line", "station")),
        b.operator,
        *(c[n] for n in ("day", "recipe", "recipe_revision")),
        recipes.c.digest.label("recipe_digest"),
        *(b[n] for n in ("inspected_at", "started_at", "finished_at", "verdict", "n_joints", *COUNT_COLUMNS, "n_packages")),
        *(b[n] for n in ("fpy", "dpmo", "cause", "cause_evidence", "disposition", "missing", "inspection_no")),
        first.c.record.label("first_record"),
        first.c.n_inspections,
        first.c.final,
        b.export_digest,
        *(d[n] for n in ("model_digest", "limits_digest", "software")),
        b.run_id,
    ).join_from(boards, first, first.c.id == b.first_id)
    board = board.join(contexts, c.id == b.context_id).join(digests, d.id == b.digests_id)
    place = (b.record, b.serial, b.inspection_no, c.day, c.lot, c.line)

    def of_part(table: Table, *columns: Any) -> Select[Any]:
        joined = select(*place, *columns).join_from(table, boards, b.id == table.c.board_id)
        return joined.join(contexts, c.id == b.context_id)

    package_columns = [p for p in packages.c if p.name not in ("board_id", "site_id", "package_index", "extra")]
    interface_columns = (interfaces.c[n] for n in ("interface", *COUNT_COLUMNS, "passed", *AGGREGATE_COLUMNS))
    return {
        "board_records": board.join(recipes, recipes.c.id == d.recipe_id),
        "package_records": of_part(
            packages, *(s[n] for n in ("refdes", "part", "construction", "warpage_limit_um")), *package_columns
        ).join(sites, s.id == packages.c.site_id),
        "interface_records": of_part(interfaces, s.refdes, s.construction, *interface_columns).join(
            sites, s.id == interfaces.c.site_id
        ),
        "defect_records": of_part(defects, *(x for x in defects.c if x.name != "board_id")),
    }


VIEWS = _declare_views()
