"""Pictures that a page carries: as they are, or as good as that."""

import base64

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspect_pop.report.page import jpeg_address, png_address

GRAIN = np.clip(np.random.default_rng(3).normal(128, 25, (48, 240)), 0, 255).astype(np.uint8)


def decoded(address: str) -> NDArray[np.uint8]:
    coded = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_is_what_it_was(channels: int) -> None:
    pixels = GRAIN if channels == 1 else np.stack([GRAIN, GRAIN // 2, 255 - GRAIN], axis=2)
    address = png_address(pixels)
    assert address.startswith("data:image/png;base64,")
    seen = decoded(address)
    np.testing.assert_array_equal(seen if channels == 1 else seen[:, :, ::-1], pixels)


def test_a_jpeg_errs_by_less_than_the_grain_and_is_smaller() -> None:
    address = jpeg_address(GRAIN)
    assert address.startswith("data:image/jpeg;base64,")
    off = np.abs(decoded(address).astype(int) - GRAIN)
    assert off.mean() < 3
    assert off.max() < 15
    assert len(address) < 0.8 * len(png_address(GRAIN))
