"""Names of the store's tables and columns, for SQLAlchemy Core; `migrations/` holds their types, keys and indexes.

The tables are named twice, here and in the migrations, so that a statement with a wrong name fails in Python; a test
compares the two.
"""

from sqlalchemy import TableClause, column, table

from inspect_pop.joints import CLASSES

__all__ = [
    "COUNTS",
    "MEASURED",
    "SETTLED",
    "SUMS",
    "TABLES",
    "boards",
    "contexts",
    "decisions",
    "defects",
    "digests",
    "files",
    "interfaces",
    "messages",
    "packages",
    "positions",
    "quarantine",
    "recipes",
    "rollups",
    "runs",
    "sites",
]

COUNTS = tuple(f"n_{c}" for c in (*CLASSES, "undecided", "review"))
SETTLED = ("final", "n_confirmed", "n_false_calls", "n_cleared", "n_escapes")
SUMS = ("boards", "passed", "joints", "opportunities", "reinspected", "final_passed", "pending", *COUNTS, *SETTLED[1:])
MEASURED = (
    *(f"p_{c}" for c in CLASSES),
    *("x_um", "y_um", "dx_um", "dy_um", "diameter_um", "volume_ratio", "void_fraction", "standoff_um", "clearance_um"),
)


def _table(name: str, *columns: str) -> TableClause:
    names = [n for group in columns for n in group.split()]
    return table(name, *(column(n) for n in names))


contexts = _table("contexts", "id key day product lot work_order line station recipe recipe_revision")
recipes = _table("recipes", "id digest")
digests = _table("digests", "id key recipe_id model_digest limits_digest software")
sites = _table("sites", "id key refdes part construction warpage_limit_um")
positions = _table("positions", "recipe_id refdes interface ball x_um y_um")
runs = _table("runs", "id command arguments software started_at finished_at outcome")
files = _table("files", "id path day lot n_boards")
boards = _table(
    "boards",
    "id record serial panel position operator context_id digests_id own_file file_id run_id export_digest",
    "inspected_at inspected_us started_at finished_at verdict n_joints",
    *COUNTS,
    "n_packages fpy dpmo cause cause_evidence disposition missing more inspection_no first_id n_inspections",
    *SETTLED,
)
packages = _table(
    "packages", "board_id site_id seat offset_x_um offset_y_um rotation_deg warpage_um stack_height_um cause cause_evidence more"
)
interfaces = _table(
    "interfaces",
    "board_id interface site_id",
    *COUNTS,
    "passed diameter_um volume_ratio volume_ratio_min void_fraction void_fraction_max standoff_um clearance_um_min",
    *SETTLED,
)
defects = _table("defects", "board_id refdes interface ball label verdict reason", *MEASURED, "flags")
decisions = _table("decisions", "id key board_id refdes interface ball state label decided_by decided_at decided_us note")
rollups = _table("rollups", "context_id level refdes part construction interface", *SUMS)
quarantine = _table("quarantine", "key path reason run_id seen_at")
messages = _table(
    "messages", "seq id record kind payload created_at delivered_at attempts claimed_by claimed_until_us last_error"
)

TABLES: tuple[TableClause, ...] = (
    contexts,
    recipes,
    digests,
    sites,
    positions,
    runs,
    files,
    boards,
    packages,
    interfaces,
    defects,
    decisions,
    quarantine,
    rollups,
    messages,
)
