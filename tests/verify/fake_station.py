"""A station that answers by the contract of the verify page, from memory."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from inspect_pop.core.columns import COLUMNS
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.station.window_routes import _describe
from inspect_pop.verify.windows import JointWindow, WindowSet, cut_windows, name_joint
from inspect_pop.verify.words import read_looks, read_page, read_static, read_words

SHOWN = tuple(c for c in COLUMNS if c.display is not None and c.display.strip)


class FakeStation:
    """Boards, decisions and who is logged in."""

    def __init__(self, *, stage: str = "operator", name: str = "anna", rights: tuple[str, ...] = ("read", "verify")) -> None:
        self.me = {"name": name, "role": stage, "stage": stage, "rights": list(rights), "csrf": "t0ken", "language": "en"}
        self.boards: dict[str, dict[str, Any]] = {}
        self.windows: dict[tuple[str, str], JointWindow] = {}
        self.decisions: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def add(self, inspection: Inspection, recipe: Recipe, groups: tuple[dict[str, Any], ...] = ()) -> WindowSet:
        kept = cut_windows(inspection, recipe, None)
        roles = {w.joint: w.role for w in kept.windows}
        for window in kept.windows:
            self.windows[inspection.board.record, window.joint] = window
        joints, measured, neighbours = [], {}, {}
        for row in inspection.joints:
            key = name_joint(row["refdes"], row["interface"], row["ball"])
            joint = {n: row[n] for n in ("refdes", "interface", "ball", "label", "verdict", "reason")}
            joint |= {"x_um": float(row["x_um"]), "y_um": float(row["y_um"]), "confidence": float(row["p_good"]), "criteria": [], "flags": []}
            joint |= {"role": roles.get(key, "other"), "has_windows": key in roles, "group": None, "reference": kept.references.get(key)}
            joints.append(joint)
            if key in roles:
                measured[key] = {c.name: float(row[c.name]) for c in SHOWN if row[c.name] == row[c.name]}
                part = inspection.joints.take(inspection.joints["interface"] == row["interface"])
                neighbours[key] = {c.name: [float(x) for x in _range(part[c.name])] for c in SHOWN}
        board = inspection.board
        self.boards[board.record] = {
            **{n: getattr(board, n) for n in ("record", "serial", "verdict", "product", "line", "station", "inspected_at", "cause", "profile", "panel")},
            "sequence": {"inspection_no": 1},
            "final": "pending",
            "joints": joints,
            "groups": list(groups),
            "columns": [{"name": c.name, "unit": c.display.unit, "words": c.display.words} for c in SHOWN],
            "measured": measured,
            "neighbours": neighbours,
            "golden": None,
        }
        return kept

    def open_joints(self, board: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = [j for j in board["joints"] if j["role"] in ("suspect", "sample")]
        return [j for j in wanted if not self.standing(board["record"], j)]

    def about(self, record: str, joint: dict[str, Any]) -> list[dict[str, Any]]:
        names = ("refdes", "interface", "ball")
        return [d for d in self.decisions if d["record"] == record and all(d[n] == joint[n] for n in names)]

    def standing(self, record: str, joint: dict[str, Any]) -> list[dict[str, Any]]:
        left: list[dict[str, Any]] = []
        for decision in self.about(record, joint):
            if decision["state"] == "DefectWithdrawn":
                left.pop()
            else:
                left.append(decision)
        return left

    def queue(self, query: dict[str, list[str]]) -> dict[str, Any]:
        text = query.get("search", [""])[0]
        rows = []
        for board in self.boards.values():
            left = self.open_joints(board)
            if not (board["serial"].startswith(text) if text else left):
                continue
            suspects = [j for j in left if j["role"] == "suspect"]
            count = {v: sum(j["verdict"] == v for j in board["joints"]) for v in ("fail", "review")}
            row = {n: board[n] for n in ("record", "serial", "inspected_at", "product", "line", "station", "panel", "verdict", "cause", "final")}
            row |= {"n_fail": count["fail"], "n_review": count["review"], "n_undecided": len(suspects), "n_sample": 1}
            row |= {"n_sample_undecided": len(left) - len(suspects), "worst": min((j["confidence"] for j in suspects), default=1.0)}
            rows.append(row)
        rows.sort(key=lambda r: (r["verdict"] != "fail", -r["n_undecided"], r["worst"]))
        limit, offset = (int(query.get(n, ["50"])[0]) for n in ("limit", "offset"))
        return {"waiting": len(rows), "boards": rows[offset : offset + limit]}

    def decide(self, given: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        for decision in given:
            before = self.about(decision["record"], decision)
            if decision["seen"] != (before[-1]["id"] if before else None):
                return 409, {"reason": "another decision came in between", "decisions": before}
        for decision in given:
            number = len(self.decisions) + 1
            more = {"id": number, "decided_by": self.me["name"], "decided_at": "2026-11-30T05:00:00+00:00"}
            self.decisions.append({k: v for k, v in decision.items() if k != "seen"} | more)
        ids = [d["id"] for d in self.decisions[-len(given) :]]
        return 200, {"record": given[0]["record"], "decided_by": self.me["name"], "decided_at": "2026-11-30T05:00:00+00:00", "final": "pending", "ids": ids}


def _range(values: Any) -> tuple[float, float, float]:
    ordered = sorted(float(v) for v in values)
    n = len(ordered)
    return ordered[n // 10], ordered[n // 2], ordered[n - 1 - n // 10]


@contextmanager
def serve_fake(station: FakeStation) -> Iterator[str]:
    """Serve until the block ends; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def reply(self, content: bytes, kind: str, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            more = {"Content-Security-Policy": "default-src 'self'", "Content-Type": kind, "Content-Length": str(len(content))}
            for name, value in {**more, **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def reply_json(self, content: Any, status: int = 200) -> None:
            self.reply(json.dumps(content).encode(), "application/json", status)

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            parts = [unquote(part) for part in address.path.strip("/").split("/")]
            match parts:
                case [""] | ["board", _]:
                    self.reply(read_page().encode(), "text/html")
                case ["verify", "static", name]:
                    self.reply(*read_static(name))
                case ["verify", "words", name]:
                    self.reply_json(read_words(name.removesuffix(".json")))
                case ["verify", "looks.json"]:
                    self.reply_json(read_looks())
                case ["v1", "me"]:
                    self.reply_json(station.me)
                case ["v1", "queue"]:
                    self.reply_json(station.queue(parse_qs(address.query)))
                case ["v1", "records", record]:
                    self.reply_json(station.boards[record] | {"decisions": [d for d in station.decisions if d["record"] == record]})
                case ["v1", "records", record, "windows", joint] if (record, joint) in station.windows:
                    window = station.windows[record, joint]
                    body = window.codes.tobytes() + (window.heights.codes.tobytes() if window.heights else b"")
                    self.reply(body, "application/octet-stream", X_Windows=json.dumps(_describe(window, True)))
                case _:
                    self.reply_json({"reason": "not kept"}, 404)

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers["X-CSRF-Token"] != station.me["csrf"]:
                self.reply_json({"reason": "forged"}, 403)
                return
            with station.lock:
                status, answer = station.decide(content)
            self.reply_json(answer, status)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
