"""Pictures as bytes that a page can carry."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["png_address"]


def png_address(pixels: NDArray[np.uint8]) -> str:
    """A `data:` address of a lossless PNG: (rows, cols) grey or (rows, cols, 3) RGB, uint8."""
    # X-ray crops are grain: there are no longer repeats to look for than runs, in half the time and a twentieth less space.
    how = cv2.IMWRITE_PNG_STRATEGY_RLE if pixels.ndim == 2 else cv2.IMWRITE_PNG_STRATEGY_DEFAULT
    picture = pixels if pixels.ndim == 2 else pixels[:, :, ::-1]
    done, coded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_STRATEGY, how])
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} and type {pixels.dtype} cannot be written as PNG")
    return "data:image/png;base64," + base64.b64encode(coded.tobytes()).decode("ascii")
