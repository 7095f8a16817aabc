"""The golden board of a product: the board that a person compares a joint with.

An engineer chooses it; it is then kept whole, and outlives its export. Without a choice it is the latest board of the product
that passed and whose export is still there. The choice is a note beside the joint files, `golden-<product>.json`, and a row of
the audit trail.
"""

import json
from dataclasses import asdict, dataclass
from urllib.parse import quote

from sqlalchemy import select

from inspect_pop.core.clock import utc_now
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Store
from inspect_pop.store.schema import boards, contexts
from inspect_pop.verify.recut import cut_all, is_there
from inspect_pop.verify.windows import JointWindow
from inspect_pop.verify.windows_file import pack_windows, read_window, read_windows

__all__ = ["Golden", "choose_golden", "find_golden", "forget_golden", "list_golden_files", "read_golden_window"]

_LATEST = 20  # boards that passed among which one is looked for whose export is there
_FOLDER = "golden"


@dataclass(frozen=True)
class Golden:
    """The golden board of a product; `chosen_by` and `chosen_at` are None where nobody chose it."""

    product: str
    record: str
    serial: str
    chosen_by: str | None = None
    chosen_at: str | None = None


def find_golden(store: Store, product: str) -> Golden | None:
    """Return the golden board of a product: the chosen one, else the latest that passed and can be cut again; None without.

    Raises:
        StoreFault: The store or the note cannot be read.
    """
    return _read_choice(store, product) or _find_latest(store, product)


def choose_golden(store: Store, product: str, record: str, *, by: str) -> Golden:
    """Make a record's board the golden one of a product, and keep the windows of all of its joints.

    Raises:
        UsageFault: The record is unknown, of another product, did not pass, or its export is gone.
        InputFault: The export cannot be read.
        StoreFault: The windows cannot be written.
    """
    stored = store.record(record)
    if stored is None or stored.board.product != product:
        found = "none" if stored is None else f"one of {stored.board.product}"
        raise UsageFault(f"record {record}", expected=f"a record of {product}", found=found)
    if stored.board.verdict != "pass":
        raise UsageFault(f"record {record}", expected="a board that passed", found=f"verdict {stored.board.verdict}")
    windows = read_windows(store, record)
    if windows is None:
        remedy = "Choose a board that was inspected since windows are kept."
        raise UsageFault(f"record {record}", expected="a file of its windows", found="none", remedy=remedy)
    files = store.claim_files()
    files.save(_make_path(record), pack_windows(cut_all(windows)))
    golden, before = Golden(product, record, stored.board.serial, by, utc_now()), _read_choice(store, product)
    store.audit(by, "golden board chosen", product, before=before and {"record": before.record}, after={"record": record})
    files.write_note(_make_note_name(product), json.dumps(asdict(golden)), is_new=False)
    if before is not None and before.record != record:
        files.remove(_make_path(before.record))
    return golden


def forget_golden(store: Store, product: str, *, by: str) -> None:
    """Withdraw the choice: the latest board that passed is the golden one again. The kept windows are removed."""
    golden = _read_choice(store, product)
    if golden is not None:
        store.audit(by, "golden board withdrawn", product, before={"record": golden.record})
        files = store.claim_files()
        files.remove(_make_note_name(product))
        files.remove(_make_path(golden.record))


def list_golden_files(store: Store) -> dict[str, tuple[str, str]]:
    """Return for each product with a chosen golden board its note and the file of its windows. Raises `StoreFault`."""
    with store.reading() as connection:
        products = [str(product) for product in connection.scalars(select(contexts.c.product).distinct())]
    chosen = {product: golden for product in products if (golden := _read_choice(store, product)) is not None}
    return {product: (_make_note_name(product), _make_path(golden.record)) for product, golden in chosen.items()}


def read_golden_window(store: Store, record: str, joint: str) -> JointWindow | None:
    """Read a joint of a chosen golden board; None where it is not kept. Raises `StoreFault`."""
    return read_window(store.require_files(), _make_path(record), joint) if store.keeps_files else None


def _make_path(record: str) -> str:
    return f"windows/{_FOLDER}/{quote(record, safe='')}.parquet"


def _make_note_name(product: str) -> str:
    return f"golden-{quote(product, safe='')[:200]}.json"


def _read_choice(store: Store, product: str) -> Golden | None:
    if not store.keeps_files:
        return None
    files, name = store.require_files(), _make_note_name(product)
    note = files.read_note(name)
    try:
        return None if note is None else Golden(**json.loads(note))
    except (ValueError, TypeError) as error:
        remedy = "Delete the file, and choose the golden board again."
        raise StoreFault(files.address(name), expected="the note of a golden board", found=str(error), remedy=remedy) from error


def _find_latest(store: Store, product: str) -> Golden | None:
    query = select(boards.c.record, boards.c.serial).join_from(boards, contexts, contexts.c.id == boards.c.context_id)
    query = query.where(contexts.c.product == product, boards.c.verdict == "pass")
    with store.reading() as connection:
        found = connection.execute(query.order_by(boards.c.inspected_us.desc(), boards.c.id.desc()).limit(_LATEST)).all()
    for record, serial in found:
        windows = read_windows(store, record)
        if windows is not None and is_there(windows.export):
            return Golden(product, record, serial)
    return None
