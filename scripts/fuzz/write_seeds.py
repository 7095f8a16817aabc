#!/usr/bin/env python
"""Write the seeds of the fuzz corpus: small valid inputs of every kind, and one of each refusal."""

import gzip
import json
import zipfile
from io import BytesIO

import cv2
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
    for name in ("manifest", "recipe", "tiff", "labels", "service", "convert", "cad"):
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
    sources(rng)
    cad()


def sources(rng: np.random.Generator) -> None:
    """A file of each kind that `convert` reads: the number of its name, the header, and the data that it names."""
    volume = rng.integers(0, 60_000, (2, 12, 11)).astype("<u2")
    data = volume.tobytes()
    nrrd = b"NRRD0004\ntype: uint16\ndimension: 3\nsizes: 11 12 2\nendian: little\nencoding: %s\nspacings: 0.01 0.01 0.004\n"
    mhd = b"NDims = 3\nDimSize = 11 12 2\nElementSpacing = 0.01 0.01 0.004\nElementType = MET_USHORT\nElementDataFile = "
    image = "[[image]]\nkind = 'xray_slices'\nrefdes = 'U1'\ninterface = 'lower'\nfiles = '*.png'\nz_um = [5, 45, 85]\n"
    grey = (volume[0] // 256).astype(np.uint8)
    contents: dict[int, bytes] = {
        0: f"[board]\nrecipe = 'r.json'\nline = 'A'\nstation = 'S'\npath = '{{serial}}_{{time:%Y%m%d}}'\n{image}".encode(),
        1: b"[file1]\nSize = 11 12 2\nName = a.vol\n[geometry]\nresolution = 0.01 0.01 0.004\nunit = mm\n===\n" + data,
        2: b"Volume_SizeX=11\nVolume_SizeY=12\nVolume_SizeZ=2\nVoxelSizeRec=0.01\nFormat=5\n===\n" + data,
        3: nrrd % b"raw" + b"data file: a.raw\n\n\n===\n" + data,
        4: nrrd % b"raw" + b"\n" + data,
        5: mhd + b"a.raw\n\n===\n" + data,
        6: mhd + b"LOCAL\n" + data,
        13: cv2.imencode(".png", grey)[1].tobytes(),
        14: cv2.imencode(".bmp", grey)[1].tobytes(),
        15: cv2.imencode(".jpg", grey)[1].tobytes(),
        17: b"# Width: 20 um\n" + b"1,5;2,5;3,5;nan;4;5;6;7\n" * 9,
        18: cv2.imencode(".png", volume[0])[1].tobytes(),
    }
    packed = nrrd % b"gzip" + b"\n" + gzip.compress(data)
    for number, content in contents.items():
        put(f"convert/kind_{number}", bytes([number]) + content)
    put("convert/packed", bytes([4]) + packed)
    picture = BytesIO()
    tifffile.imwrite(picture, np.stack([grey, grey]), photometric="minisblack", compression="jpeg")
    put("convert/jpeg_in_tiff", bytes([12]) + picture.getvalue())


def cad() -> None:
    """A small file for each reader of CAD and of labels, by its number."""
    pads = " ".join(f'(pad "{r}{c}" smd circle (at {c} {y}) (size 0.4 0.4))' for y, r in enumerate("ABC") for c in range(1, 4))
    rows = "".join(
        f"317NET{c}            U1    -{r}{c}   D0400PA00X+{c}0000Y+{y}0000X0157Y0000R000S0\n"
        for y, r in enumerate("ABC")
        for c in (1, 2, 3)
    )
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    picture = {"id": 1, "file_name": "S1_lower.png", "width": 30, "height": 20}
    contents = {
        0: f'(footprint "BGA" {pads})',
        1: f'(kicad_pcb (footprint "BGA" (at 10 20 90) (property "Reference" "U1") {pads}))',
        2: f"P  UNITS CUST 0\n{rows}999\n",
        3: '<IPC-2581 xmlns="http://webstds.ipc.org/2581"><Ecad><CadHeader units="MILLIMETER"/></Ecad></IPC-2581>',
        4: "Ball,Signal\n" + "".join(f"{r}{c},N\n" for r in "ABC" for c in (1, 2, 3)),
        5: "# Ref Val Package PosX PosY Rot Side\nU1 X BGA 1.0 2.0 90 top\n",
        6: "Ref,Val,Package,PosX,PosY,Rot,Side\nU1,X,BGA,1.0,2.0,90,top\n",
        7: json.dumps({"images": [picture], "categories": [{"id": 1, "name": "short"}], "annotations": [box]}),
        8: '<annotations><image name="a.png" width="9" height="9"><box label="x" xtl="1" ytl="1" xbr="2" ybr="2"/></image>'
        "</annotations>",
        9: json.dumps([{"data": {"image": "S1_lower.png"}, "annotations": [{"result": []}]}]),
        10: json.dumps(
            {
                "imagePath": "S1.png",
                "imageWidth": 9,
                "imageHeight": 9,
                "shapes": [{"label": "x", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}],
            }
        ),
        11: "path: .\nnames:\n  0: short\n  1: void\n",
        12: "0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.1 0.1\n",
    }
    for number, text in contents.items():
        put(f"cad/reader_{number}", bytes([number]) + text.encode())


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
