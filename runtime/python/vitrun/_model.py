"""Model: a classifier, or a model of embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from ctypes import c_void_p
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from vitrun._library import Error, Handle, Output, TopPrediction, check, integer, lib, text
from vitrun._opened import Opened
from vitrun._pixels import Image, Images, as_array, is_batch

if TYPE_CHECKING:
    from PIL import Image as Pillow


class Prediction(NamedTuple):
    """One class of an image, as `vitrun --json` prints it."""

    class_index: int
    label: str | None  #: None if the model has no names for its classes
    probability: float  #: softmax over all classes, 0 to 1; of a model with one output the sigmoid of its logit
    logit: float


def _outputs_of(model: c_void_p) -> dict[str, tuple[int, ...]]:
    """The shape of each output for one image."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(lib.vit_model_outputs(model)):
        name = text(lib.vit_model_output_name(model, i)) or ""
        rows, cols = lib.vit_model_output_rows(model, i), lib.vit_model_output_cols(model, i)
        shapes[name] = (rows, cols) if name == "features" else (cols,)
    return shapes


class Model(Opened):
    """A quantized vision transformer (.qbin), mapped into memory and ready to run.

    One model may be used by any number of threads at once. Each call borrows a session (buffers and threads of the
    library) that no other call uses, so that calls run side by side without the GIL; there are as many sessions as calls
    ever ran at once. In a child of fork() the model works on. A pickled model is opened again by its path.

    Every answer is the same to the last bit on every CPU, for every number of threads and for every batch.

    Args:
        path: the .qbin. It must not be changed while it is open (replace it by renaming another over it).
        threads: of the library for one call, 1 to 256; 0 is one for each CPU that affinity and cgroup quota allow. Give 1
            where several Python threads or processes call at once.
        isa: instruction set, one of isa_names(); None is VITRUN_ISA in the environment, or the best.
        verify: compare all weights with their checksums, which reads the whole file.

    Raises:
        Error: the file cannot be opened, is no usable .qbin, or an argument is out of range.

    Attributes:
        path: absolute.
        name: of the architecture, "deit_small_patch16_224".
        width, height: of its input, in pixels.
        classes: how many; 0 if it has no logits.
        outputs: name and shape for one image of what it can give: "logits" (classes,), "embedding" (D,) and
            "features" (tokens, D), the tokens after the last norm, prefix tokens first.
        file_bytes: size of the file.
    """

    _create, _free = "vit_session_create", "vit_session_free"

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, isa: str | None = None,
                 verify: bool = False) -> None:
        super().__init__(path, threads=threads, isa=isa, verify=verify)
        pointer = self._open_handle().pointer
        self.width: int = lib.vit_model_width(pointer)
        self.height: int = lib.vit_model_height(pointer)
        self.outputs: Mapping[str, tuple[int, ...]] = MappingProxyType(_outputs_of(pointer))

    # ---- answers ----

    # The overlap: a str is a sequence of str too, but is taken as a path.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: str | os.PathLike[str] | Pillow.Image, topk: int = 5) -> list[Prediction]: ...
    @overload
    def predict(self, images: NDArray[Any], topk: int = 5) -> list[Any]: ...
    @overload
    def predict(self, images: Sequence[Image], topk: int = 5) -> list[list[Prediction]]: ...

    def predict(self, images: Image | Images, topk: int = 5) -> list[Any]:
        """The most probable classes, best first, equal ones by class.

        Args:
            images: one image: a path, a PIL.Image, uint8 pixels [height, width, 3] of any size, resized, cropped and
                normalised as the model was trained; or float32 [3, height, width] of the model's size, normalised
                already. Several: a list or tuple of such, uint8 [N, height, width, 3], float32 [N, 3, height, width].
            topk: how many classes; all of them if the model has fewer.

        Returns:
            For one image a list of topk predictions; for several a list of such lists.

        Raises:
            Error: as run().
        """
        k = min(integer(topk, "topk", 1, 2**31 - 1), max(self.classes, 1))
        logits = self.logits(images)
        if logits.ndim == 1:
            return self._best(logits, k)
        return [self._best(row, k) for row in logits]

    def logits(self, images: Image | Images) -> NDArray[np.float32]:
        """Scores before softmax: [classes] of one image, [N, classes] of several. Images and errors as run()."""
        return self.run(images, ["logits"])["logits"]

    def embedding(self, images: Image | Images) -> NDArray[np.float32]:
        """The image's vector, as timm's forward with num_classes=0: [D], or [N, D]. Images and errors as run()."""
        return self.run(images, ["embedding"])["embedding"]

    def features(self, images: Image | Images) -> NDArray[np.float32]:
        """The tokens after the last norm, prefix tokens first: [tokens, D], or [N, tokens, D]. Otherwise as run()."""
        return self.run(images, ["features"])["features"]

    def run(self, images: Image | Images, outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Several outputs of one pass over the model.

        Args:
            images: one or several, as for predict().
            outputs: names, keys of the attribute `outputs`.

        Returns:
            An array for each name: of one image with the shape that `outputs` says, of several with N in front.

        Raises:
            Error: an image cannot be read or has a wrong type or shape, its floats are not finite, the model has no such
                output, or it is closed. Of several images none is answered then.
        """
        items: Any = images
        several = is_batch(images)
        if not several:
            items = [images]
        results = {name: np.empty((len(items), *self._shape(name)), np.float32) for name in outputs}
        with self._borrowed() as session:
            for i, image in enumerate(items):
                array = as_array(image, self.width, self.height)
                _run(session, array, {name: result[i] for name, result in results.items()})
        return results if several else {name: result[0] for name, result in results.items()}

    def _shape(self, output: str) -> tuple[int, ...]:
        if output not in self.outputs:
            raise Error(f"the model has no output {output!r}, only {', '.join(self.outputs)}")
        return self.outputs[output]

    def _best(self, logits: NDArray[np.float32], k: int) -> list[Prediction]:
        found = (TopPrediction * k)()
        check(lib.vit_top_k(logits.ctypes.data, self.classes, k, found))
        names = self.labels
        return [Prediction(p.class_index, names[p.class_index] if names else None, p.probability, p.logit) for p in found]

    def __repr__(self) -> str:
        state = f"{self.name}, {self.width} x {self.height}, {self.classes} classes"
        return f"vitrun.Model({self.path!r}: {state}{'' if self._handle else ', closed'})"


def _run(session: Handle, image: NDArray[Any], results: Mapping[str, NDArray[np.float32]]) -> None:
    """Runs one image; results: contiguous arrays of the outputs' shapes, which are filled."""
    wanted = (Output * len(results))(*[Output(name.encode(), out.ctypes.data, out.size) for name, out in results.items()])
    if image.dtype == np.uint8:
        height, width = image.shape[:2]
        check(lib.vit_session_run_rgb(session.pointer, image.ctypes.data, width, height, 3 * width, wanted, len(wanted)))
    else:
        check(lib.vit_session_run_float(session.pointer, image.ctypes.data, 1, wanted, len(wanted)))
