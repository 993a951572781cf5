"""What a caller gives as an image becomes an array: uint8 pixels [height, width, 3], or float32 [3, height, width]."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from vitrun._library import Error

if TYPE_CHECKING:
    from PIL import Image as Pillow

#: One image: a path, a PIL.Image, uint8 pixels [height, width, 3], or float32 [3, height, width], normalised already.
Image = Union[str, "os.PathLike[str]", "Pillow.Image", NDArray[np.uint8], NDArray[np.float32]]
#: Several: a sequence of any of those, uint8 [N, height, width, 3], or float32 [N, 3, height, width].
Images = Union[Sequence[Image], NDArray[np.uint8], NDArray[np.float32]]

_ACCEPTED = "a path, a PIL.Image, uint8 pixels [height, width, 3] or float32 [3, height, width]"


def _is_pillow(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # a PIL.Image exists only where it was imported
    return pillow is not None and isinstance(value, pillow.Image)


def is_batch(images: Image | Images) -> bool:
    """Whether these are several images rather than one."""
    if isinstance(images, np.ndarray):
        if images.ndim not in (3, 4):
            raise Error(f"an image is {_ACCEPTED}, several have one dimension more; got an array {list(images.shape)}")
        return images.ndim == 4
    if isinstance(images, (str, os.PathLike)) or _is_pillow(images):
        return False
    if isinstance(images, (list, tuple)):
        return True
    raise Error(f"an image is {_ACCEPTED}, several are a list or an array; got {type(images).__name__}")


def _open(path: str) -> NDArray[np.uint8]:
    try:
        from PIL import Image as pillow
    except ImportError as error:
        raise Error(f"{path}: image files need Pillow: pip install 'vitrun[images]'") from error
    try:
        with pillow.open(path) as image:
            return _pixels(image)
    except FileNotFoundError as error:
        raise Error(f"{path}: cannot open: {error.strerror}", "VIT_ERROR_FILE") from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise Error(f"{path}: {error or type(error).__name__}", "VIT_ERROR_FILE") from error


def _pixels(image: Pillow.Image) -> NDArray[np.uint8]:
    """RGB [height, width, 3], turned upright as its EXIF orientation says; alpha is dropped, not blended."""
    from PIL import ImageOps

    if image.mode in ("I", "F"):
        raise Error(f"mode {image.mode} of a PIL.Image has no known range; convert it to 8 bits first")
    image = ImageOps.exif_transpose(image) or image
    if image.mode.startswith("I;16"):  # 16-bit grey: the high byte, as the programs take it
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"), np.uint8)


def _check_array(array: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    if array.dtype == np.uint8:
        if array.ndim != 3 or array.shape[2] != 3:
            raise Error(f"uint8 pixels are [height, width, 3], got {list(array.shape)}")
    elif array.dtype == np.float32:
        if array.shape != (3, height, width):
            raise Error(f"a float32 image of this model is [3, {height}, {width}], got {list(array.shape)}")
    else:
        raise Error(f"an array of an image is uint8 (pixels) or float32 (normalised), got {array.dtype}")
    return np.ascontiguousarray(array)


def as_array(image: Image, width: int, height: int) -> NDArray[Any]:
    """One image, contiguous, for a model of that size. Raises Error, naming the file, where that cannot be."""
    if isinstance(image, np.ndarray):
        return _check_array(image, width, height)
    if isinstance(image, (str, os.PathLike)):
        return np.ascontiguousarray(_open(os.fspath(image)))
    if _is_pillow(image):
        return np.ascontiguousarray(_pixels(image))
    raise Error(f"an image is {_ACCEPTED}, got {type(image).__name__}")


def as_pixels(image: Image) -> NDArray[np.uint8]:
    """One image of any size as contiguous pixels, for a detector. Raises Error where that cannot be."""
    if isinstance(image, np.ndarray) and image.dtype != np.uint8:
        raise Error(f"an array for a detector is uint8 pixels [height, width, 3], got {image.dtype}")
    return as_array(image, 0, 0)
