#!/usr/bin/env python
"""Write the seeds of the fuzz corpus: small good inputs of every kind, from which a run begins."""

import json
import zipfile
from io import BytesIO

import numpy as np
import tifffile
from common import CORPUS, ROOT

SAMPLE = ROOT / "datasets" / "sample"
TIFFS = {
    "plain": {},
    "big_endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "deflate": {"compression": "deflate", "predictor": True, "rowsperstrip": 4},
    "lzw": {"compression": "lzw", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "tiles": {"tile": (16, 16), "compression": "deflate"},
    "imagej": {"imagej": True},
    "jpeg": {"compression": "jpeg"},
}


def main() -> None:
    """All seeds, written anew."""
    for name in ("manifest", "recipe", "tiff", "labels", "service"):
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
    (manifest,) = SAMPLE.glob("boards/*/export.json")
    document = json.loads(manifest.read_text(encoding="utf-8"))
    put("manifest/good", json.dumps(document))
    put(
        "manifest/transmission",
        json.dumps(document | {"images": [document["images"][0] | {"method": "transmission", "z_um": [85]}]}),
    )
    put(
        "manifest/least",
        json.dumps({k: document[k] for k in document if k not in ("panel", "position", "lot", "operator")} | {"images": []}),
    )
    recipe = json.loads((SAMPLE / "recipes/tst4-pop.json").read_text(encoding="utf-8"))
    for interface in recipe["packages"][0]["interfaces"]:
        interface["joints"] = "fuzzed.csv"
    table = (SAMPLE / "recipes/tst4-pop_U1_upper.csv").read_text(encoding="utf-8")
    put("recipe/good", f"{json.dumps(recipe)}\n===\n{table}")
    put("recipe/windows", f"\ufeff{json.dumps(recipe)}\n===\n\ufeff" + table.replace("\n", "\r\n"))
    lines = (SAMPLE / "labels.csv").read_text(encoding="utf-8").splitlines()
    put("labels/good", "\n".join(lines[:6]))
    put("labels/quoted", lines[0] + "\r\n" + lines[1] + '"said ""open"",\nthen good"\r\n')
    rng = np.random.default_rng(1)
    for dtype in ("uint8", "uint16", "float32"):
        for name, options in TIFFS.items():
            if name == "jpeg" and dtype != "uint8":
                continue
            for n in (1, 3):
                values = rng.normal(100, 20, (n, 10, 12)).astype(dtype)
                path = CORPUS / "tiff" / f"{name}_{dtype}_{n}.seed"
                byteorder = options.get("byteorder")
                rest = {k: v for k, v in options.items() if k != "byteorder"}
                tifffile.imwrite(
                    path, values, photometric="minisblack", byteorder=byteorder, metadata=None if name != "imagej" else {}, **rest
                )

    service(json.dumps(document | {"images": []}), json.dumps(recipe), table)


def service(manifest: str, recipe: str, table: str) -> None:
    """Uploads, as zips and within a form, and every kind of request."""
    files = {"boards/PB/export.json": manifest, "recipes/tst4-pop.json": recipe, "recipes/fuzzed.csv": table}
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive:
            for path, text in files.items():
                archive.writestr(zipfile.ZipInfo(path), text, method)
        put(f"service/zip_{name}", packed.getvalue())
    form = (
        b'--=b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n' + packed.getvalue() + b"\r\n--=b--\r\n"
    )
    kind = "content-type: multipart/form-data; boundary==b\nhost: 127.0.0.1"
    put("service/upload", f"POST /v1/inspections\n{kind}\ncontent-length: {len(form)}\n\n".encode() + form)
    decision = {
        "refdes": "U1",
        "interface": "lower",
        "ball": "A1",
        "state": "DefectMissed",
        "label": "open",
        "note": "x",
        "record": None,
    }
    bodies = {
        "POST /v1/inspections": {"path": "boards/PB2411-010204"},
        "POST /v1/boards/PB-1/decisions": decision,
        "POST /v1/model": {"path": "models/pop-joints-3"},
    }
    for number, (line, body) in enumerate(bodies.items()):
        put(f"service/request_{number}", f"{line}\ncontent-type: application/json\n\n{json.dumps(body)}")
    for number, path in enumerate(
        ("v1/boards/PB-1", "v1/boards/PB-2?x=1", "v1/reports/none", "metrics", "readyz", "docs", "openapi.json")
    ):
        put(f"service/page_{number}", f"GET /{path}\norigin: http://localhost\nauthorization: Bearer x\n\n")


def put(name: str, content: str | bytes) -> None:
    """One seed."""
    (CORPUS / f"{name}.seed").write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


if __name__ == "__main__":
    main()
