"""A stand-in for `inspect-pop train`: does what the file `wish.json` next to its model asks for. Needs no torch."""

import json
import shutil
import sys
import time
from pathlib import Path

BETTER, EQUAL = {"rate": 0.01}, {"rate": 0.02}


def make_figures(rate: dict[str, float]) -> dict[str, object]:
    full = rate | {"count": 1, "of": 100, "low": 0.0, "high": 0.05, "board_low": None, "board_high": None}
    return {"escape": full, "false_call": full, "review": full, "boards": 3, "joints": 300, "defects": 20}


def main() -> None:
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    out, model = Path(given["--out"]), Path(given["--from"])
    wish = json.loads((model.parent / "wish.json").read_text())
    print(f"began with {given['--store']}", flush=True)
    if "again" in wish and out.exists():
        wish = wish["again"]
    out.mkdir(parents=True, exist_ok=True)
    print("epoch 1 of 4: loss 0.5", flush=True)
    time.sleep(wish.get("seconds", 0))
    if wish.get("fails"):
        raise SystemExit("no labelled boards")
    shutil.copytree(model, out, dirs_exist_ok=True)
    (out / "digest").write_text("trained")
    gates = [{"name": "escapes in all", "passed": not wish.get("stops"), "explanation": "12 %, at most 10 %"}]
    # A lower rate alone is no gain: by chance, one of three is often lower.
    new, old = make_figures(BETTER), make_figures(EQUAL)
    verdict = "new is better: fewer escapes" if wish.get("better") else "chance explains every difference on these boards"
    comparison = {"is_better": bool(wish.get("better")), "verdict": verdict}
    report = {"gates": gates, "new": new, "old": old, "comparison": comparison, "curve": {"summary": "4 boards leave 3 errors."}}
    report["labels"] = {"bias": "people looked at 9 of these joints"}
    (out / "report.json").write_text(json.dumps(report))
    card = json.loads((out / "card.json").read_text())
    card["files"]["report.json"] = ""
    (out / "card.json").write_text(json.dumps(card | {"metrics": new}))
    seal(out)


def seal(out: Path) -> None:
    from inspect_pop.classify.model import file_digest

    card = json.loads((out / "card.json").read_text())
    card["files"] = {name: file_digest((out / name).read_bytes()) for name in card["files"]}
    (out / "card.json").write_text(json.dumps(card))


if __name__ == "__main__":
    main()
