"""Detector: finds objects in images, with boxes and masks."""

from __future__ import annotations

import os
from ctypes import byref, c_int
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from vitrun._library import Error, FoundObject, Handle, check, integer, lib, text
from vitrun._opened import Opened
from vitrun._pixels import Image, Images, as_pixels, is_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image as Pillow


class Detection(NamedTuple):
    """One object of an image, as `vitrun --json` prints it."""

    box: tuple[float, float, float, float]  #: x1, y1, x2, y2: corners in the image's pixels
    score: float  #: 0 to 1
    class_index: int
    label: str | None  #: None if the model has no names for its classes
    mask: NDArray[np.bool_]  #: [height, width] of the image: which pixels are the object's
    counts: str  #: the mask as "counts" of a COCO run-length code, whose "size" is [height, width]


class Detector(Opened):
    """A quantized detector (.qbin) with instance segmentation, mapped into memory and ready to run.

    Threads, fork() and pickling are as with Model, and what is found is the same on every CPU.

    Args:
        path, threads, isa, verify: as Model takes them.

    Raises:
        Error: the file cannot be opened, is no detector, or an argument is out of range.

    Attributes:
        path: absolute.
        name: of the architecture, "mask_rcnn" or "cascade_mask_rcnn".
        classes: how many it tells apart.
        file_bytes: size of the file.
    """

    _session = "vit_detector"

    # The overload for one image comes first: a str is a sequence of str too, but is taken as a path.
    @overload
    def detect(  # type: ignore[overload-overlap]
        self, images: str | os.PathLike[str] | Pillow.Image) -> list[Detection]: ...
    @overload
    def detect(self, images: NDArray[Any]) -> list[Any]: ...
    @overload
    def detect(self, images: Sequence[Image]) -> list[list[Detection]]: ...

    def detect(self, images: Image | Images) -> list[Any]:
        """The objects of an image, best first.

        Args:
            images: one image of any size: a path, a PIL.Image or uint8 pixels [height, width, 3]; or several of such.

        Returns:
            For one image a list of detections, which may be empty; for several a list of such lists.

        Raises:
            Error: an image cannot be read or has a wrong type or shape. Of several images none is answered then.
        """
        items: Any = images
        several = is_batch(images)
        if not several:
            items = [images]
        with self._borrowed() as session:
            found = [self._found(session, as_pixels(item)) for item in items]
        return found if several else found[0]

    def memory_for(self, width: int, height: int) -> int:
        """Bytes that a call takes at most for an image of this size; its masks come on top."""
        with self._borrowed() as session:
            width, height = integer(width, "width", 1, 2**31 - 1), integer(height, "height", 1, 2**31 - 1)
            bytes_: int = lib.vit_detector_memory_for(session.pointer, width, height)
        if bytes_ == 0:
            raise Error(f"no image has the size {width} x {height}")
        return bytes_

    def _found(self, session: Handle, pixels: NDArray[np.uint8]) -> list[Detection]:
        height, width = pixels.shape[:2]
        count, names = c_int(), self.labels
        check(lib.vit_detector_run_rgb(session.pointer, pixels.ctypes.data, width, height, 3 * width, byref(count)))
        detections = []
        for i in range(count.value):
            found = FoundObject()
            check(lib.vit_detector_get(session.pointer, i, byref(found)))
            mask = np.empty((height, width), np.bool_)
            check(lib.vit_detector_mask(session.pointer, i, mask.ctypes.data, mask.size))
            detections.append(Detection((found.x1, found.y1, found.x2, found.y2), found.score, found.class_index,
                                        names[found.class_index] if names else None, mask,
                                        text(lib.vit_detector_mask_counts(session.pointer, i)) or ""))
        return detections

    def __repr__(self) -> str:
        return f"vitrun.Detector({self.path!r}: {self.name}, {self.classes} classes{'' if self._handle else ', closed'})"
