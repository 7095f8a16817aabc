#!/usr/bin/env python
"""Write the seeds of the fuzz corpus: small valid inputs of every kind, and one of each refusal."""

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
    labels((SAMPLE / "labels.csv").read_text(encoding="utf-8").splitlines())
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

    write_refused_pictures(rng)
    service(json.dumps(document | {"images": []}), json.dumps(recipe), table)


def labels(lines: list[str]) -> None:
    """Good labels, and labels that are refused: each takes the reader another way."""
    head, first, *_ = lines
    put("labels/good", "\n".join(lines[:6]))
    put("labels/quoted", head + "\r\n" + first + '"said ""open"",\nthen good"\r\n')
    serial, refdes, interface, ball, label = first.split(",")[:5]
    least = "serial,refdes,interface,ball,label"
    put(
        "labels/least",
        f"\ufeff{least}\n{serial},{refdes},{interface},{ball},{label}\n\n{serial},{refdes},{interface},{ball},open\n",
    )
    wrong = {
        "no_column": "serial,refdes,interface,label\n",
        "doubled_column": f"{least},label\n{first}\n",
        "semicolons": lines[0].replace(",", ";"),
        "no_such_label": f"{least}\n{serial},{refdes},{interface},{ball},Good\n",
        "no_such_interface": f"{least}\n{serial},{refdes},middle,{ball},good\n",
        "no_such_joint": f"{least}\n{serial},{refdes},{interface},ZZ99,good\n",
        "short_row": f"{least}\n{serial},{refdes}\n",
        "long_row": f"{least}\n{serial},{refdes},{interface},{ball},good,1,5\n",
        "open_quote": f'{least}\n{serial},{refdes},"{interface},{ball},good\n',
        "quote_within": f'{least}\n{serial},{refdes},"low"er,{ball},good\n',
        "returns_alone": f"{least}\r{serial},{refdes},{interface},{ball},good\r",
        "nothing": "",
    }
    for name, text in wrong.items():
        put(f"labels/{name}", text)
    for encoding in ("utf-16", "cp1252"):
        put(f"labels/{encoding}", f"{least},note\n{serial},{refdes},{interface},{ball},good,Löt\n".encode(encoding))


def write_refused_pictures(rng: np.random.Generator) -> None:
    """Pictures that are refused, or of which something is lost, one of each kind."""
    grey, heights = rng.normal(100, 20, (3, 10, 12)), rng.normal(100, 20, (1, 10, 12)).astype(np.float32)
    some, gap = grey.astype(np.uint16), np.where(rng.random((1, 10, 12)) < 0.5, np.nan, heights).astype(np.float32)
    pictures = {
        "lost_slice": np.where(np.arange(3)[:, None, None] == 1, 0, some).astype(np.uint16),
        "all_lost": np.zeros((3, 10, 12), np.uint16),
        "same_slice_twice": some[[0, 1, 1]],
        "two_pages": some[:2],
        "four_pages": np.concatenate([some, some]),
        "signed": some.astype(np.int16),
        "double": grey,
        "tiny": some[:, :2, :2],
        "no_heights": np.full_like(heights, np.nan),
        "level": np.full_like(heights, 5.0),
        "far_too_high": heights * 1e6,
        "gaps": gap,
        "infinite": np.where(np.isnan(gap), np.inf, gap).astype(np.float32),
        "integers_with_none": np.where(np.isnan(gap), 0, gap).astype(np.uint16),
    }
    for name, values in pictures.items():
        tifffile.imwrite(CORPUS / "tiff" / f"{name}.seed", values, photometric="minisblack", metadata=None)
    colours = rng.integers(0, 255, (10, 12, 3)).astype(np.uint8)
    tifffile.imwrite(CORPUS / "tiff" / "colours.seed", colours, photometric="rgb", metadata=None)
    with tifffile.TiffWriter(CORPUS / "tiff" / "pages_of_two_sizes.seed") as file:
        for rows in (10, 9, 10):
            file.write(some[0, :rows], photometric="minisblack", metadata=None)
    plain = (CORPUS / "tiff" / "plain_uint16_3.seed").read_bytes()
    put("tiff/cut_short", plain[:-40])
    put("tiff/circle", plain.replace(*_last_link(plain)))


def _last_link(plain: bytes) -> tuple[bytes, bytes]:
    """The end of the last page's directory, and the same pointing back to the first page."""
    with tifffile.TiffFile(BytesIO(plain)) as tif:
        at = tif.pages[2].offset
        n_tags = int.from_bytes(plain[at : at + 2], "little")
        end = at + 2 + 12 * n_tags
        return plain[end - 12 : end + 4], plain[end - 12 : end] + tif.pages[0].offset.to_bytes(4, "little")


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
        "POST /v1/model": {"path": "models/pop-joints-5"},
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
