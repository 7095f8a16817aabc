"""The lean plain peer: the first half of the job, as a notebook would do it, as a reference for speed.

scikit-image `label` and `regionprops` on every slice, `HoughCircles` on every slice, one crop per joint at its designed
place, and an eager torch ResNet18 on the crops, one by one or in batches. The peer aligns nothing, measures no heights and
decides nothing, so it does less than `inspect_board`; peer_job.py does the whole job. The weights are random, because only
the time matters here; scripts/studies/measure_peer.py trains them.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

__all__ = ["inspect", "network"]

CROP = 64
BATCH = 64
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")


def network(channels: int = 5, classes: int = 5) -> Any:
    """ResNet18 for crops of that many slices."""
    if not hasattr(torch.ops.torchvision, "nms"):  # torchvision's CUDA build beside a CPU torch asks for these at import
        for operator in ("nms", "qnms"):
            _OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.models import resnet18

    net = resnet18(weights=None, num_classes=classes)
    net.conv1 = torch.nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return net.eval()


def inspect(board: Path, net: Any, batched: bool) -> tuple[int, dict[str, float]]:
    """Joints inspected, and seconds by step."""
    seconds = dict.fromkeys(("read", "regionprops", "hough", "network"), 0.0)
    joints = 0
    for stack, centres in _interfaces(board, seconds):
        start = process_time()
        for page in stack:
            regionprops_of(page)
        seconds["regionprops"] += process_time() - start
        start = process_time()
        for page in stack:
            cv2.HoughCircles(_eight_bit(page), cv2.HOUGH_GRADIENT, 1, 20, param1=80, param2=12, minRadius=6, maxRadius=18)
        seconds["hough"] += process_time() - start
        start = process_time()
        _classify(net, _crops(stack, centres), batched)
        seconds["network"] += process_time() - start
        joints += len(centres)
    return joints, seconds


def regionprops_of(page: NDArray[Any]) -> list[tuple[float, float, float]]:
    """Centre and diameter of every bright body in one slice."""
    regions = regionprops(label(page > threshold_otsu(page)), intensity_image=page)
    return [(*r.centroid, r.equivalent_diameter_area) for r in regions if r.area > 20 and r.intensity_mean > 0]


def _interfaces(board: Path, seconds: dict[str, float]) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    manifest = json.loads((board / "export.json").read_text())
    recipe_path = board / manifest["recipe"]
    recipe = json.loads(recipe_path.read_text())
    places = {(p["refdes"], i["name"]): i["joints"] for p in recipe["packages"] for i in p["interfaces"]}
    for image in manifest["images"]:
        start = process_time()
        pages = tifffile.imread(board / image["file"])
        seconds["read"] += process_time() - start
        if image["kind"] != "xray_slices":
            continue
        with (recipe_path.parent / places[image["refdes"], image["interface"]]).open() as table:
            rows = list(csv.DictReader(table))
        x, y = (np.array([float(r[c]) for r in rows]) for c in ("x_um", "y_um"))
        row = (image["origin_um"][1] - y) / image["pixel_um"]
        col = (x - image["origin_um"][0]) / image["pixel_um"]
        yield pages, np.rint(np.column_stack([row, col])).astype(int)


def _crops(stack: NDArray[Any], centres: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    half = CROP // 2
    padded = np.pad(stack, ((0, 0), (half, half), (half, half)), mode="edge").astype(np.float32)
    padded = (padded - padded.mean()) / padded.std()
    return [padded[:5, r : r + CROP, c : c + CROP] for r, c in centres]


def _classify(net: Any, crops: list[NDArray[np.float32]], batched: bool) -> None:
    size = BATCH if batched else 1
    with torch.inference_mode():
        for start in range(0, len(crops), size):
            net(torch.from_numpy(np.stack(crops[start : start + size])))


def _eight_bit(page: NDArray[Any]) -> NDArray[np.uint8]:
    return cv2.normalize(page.astype(np.float32), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
