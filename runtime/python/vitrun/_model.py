"""Model: a classifier, or a model of embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from ctypes import c_char_p, c_void_p
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from vitrun._library import Error, Handle, Output, TopPrediction, c_string, check, integer, lib, text
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
        takes_texts: whether it embeds texts as well (CLIP with both towers).
        file_bytes: size of the file.
    """

    _session = "vit_session"

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, isa: str | None = None,
                 verify: bool = False) -> None:
        super().__init__(path, threads=threads, isa=isa, verify=verify)
        pointer = self._open_handle().pointer
        self.width: int = lib.vit_model_width(pointer)
        self.height: int = lib.vit_model_height(pointer)
        self.outputs: Mapping[str, tuple[int, ...]] = MappingProxyType(_outputs_of(pointer))
        self.takes_texts = bool(lib.vit_model_takes_texts(pointer))

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
            return _best(logits, k, self.labels)
        return [_best(row, k, self.labels) for row in logits]

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

    # ---- texts ----

    def text_embedding(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts, which those of images are compared with: [D] of one text, [N, D] of several.

        Raises:
            Error: the model takes no texts.
        """
        several = [texts] if isinstance(texts, str) else list(texts)
        rows = self._embed_texts(several, lambda encoder, text, row: lib.vit_text_encoder_run(
            encoder.pointer, _utf8(text, "a text"), row.ctypes.data, row.size))
        return rows[0] if isinstance(texts, str) else rows

    def class_vectors(self, names: Sequence[str], templates: Sequence[str] = ()) -> NDArray[np.float32]:
        """A vector of length 1 for each class, [classes, D]: the mean of texts about it.

        Args:
            names: of the classes: ["cat", "a red car"].
            templates: texts with {} in the place of the name; none: seven of CLIP's, as `vitrun --classes` takes.

        Raises:
            Error: the model takes no texts, a template has no {}, or a name is empty.
        """
        if isinstance(names, str) or isinstance(templates, str):
            raise Error("names and templates are several: a list of str")
        array = (c_char_p * max(len(templates), 1))(*[_utf8(t, "a template") for t in templates])
        return self._embed_texts(list(names), lambda encoder, name, row: lib.vit_text_encoder_run_class(
            encoder.pointer, _utf8(name, "a name"), array, len(templates), row.ctypes.data, row.size))

    def zero_shot(self, images: Image | Images, classes: Sequence[str], vectors: NDArray[np.float32] | None = None,
                  topk: int = 5) -> list[Any]:
        """The classes that images are of, by their names alone: `vitrun --classes`.

        Args:
            images: one or several, as for predict().
            classes: their names.
            vectors: of class_vectors(classes), which this makes otherwise: keep it where you call more than once.
            topk: how many classes.

        Returns:
            As predict().
        """
        known = self.class_vectors(classes) if vectors is None else np.ascontiguousarray(vectors, np.float32)
        embeddings = self.embedding(images)
        if known.shape != (len(classes), embeddings.shape[-1]):
            raise Error(f"vectors of these classes are [{len(classes)}, {embeddings.shape[-1]}], got {list(known.shape)}")
        with self._borrowed("vit_text_encoder") as encoder:
            scale = lib.vit_text_encoder_logit_scale(encoder.pointer)
        k = min(integer(topk, "topk", 1, 2**31 - 1), len(classes))
        answers = [_best(_logits_of(row, known, scale), k, classes) for row in np.atleast_2d(embeddings)]
        return answers if embeddings.ndim == 2 else answers[0]

    def _embed_texts(self, texts: list[str], embed: Any) -> NDArray[np.float32]:
        """[texts, D]; embed(encoder, text, row) is the C call that fills a row."""
        if not texts:
            raise Error("there is no text")
        with self._borrowed("vit_text_encoder") as encoder:
            rows = np.empty((len(texts), lib.vit_text_encoder_cols(encoder.pointer)), np.float32)
            for text_, row in zip(texts, rows):
                check(embed(encoder, text_, row))
        return rows

    def _shape(self, output: str) -> tuple[int, ...]:
        if output not in self.outputs:
            raise Error(f"the model has no output {output!r}, only {', '.join(self.outputs)}")
        return self.outputs[output]

    def __repr__(self) -> str:
        state = f"{self.name}, {self.width} x {self.height}, {self.classes} classes"
        return f"vitrun.Model({self.path!r}: {state}{'' if self._handle else ', closed'})"


def _utf8(value: str, what: str) -> bytes:
    return c_string(value, what, str.encode)


def _logits_of(embedding: NDArray[np.float32], vectors: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    logits = np.empty(len(vectors), np.float32)
    check(lib.vit_cosines(embedding.ctypes.data, vectors.ctypes.data, *vectors.shape, scale, logits.ctypes.data))
    return logits


def _best(logits: NDArray[np.float32], k: int, names: Sequence[str] | None) -> list[Prediction]:
    found = (TopPrediction * k)()
    check(lib.vit_top_k(logits.ctypes.data, len(logits), k, found))
    return [Prediction(p.class_index, names[p.class_index] if names else None, p.probability, p.logit) for p in found]


def _run(session: Handle, image: NDArray[Any], results: Mapping[str, NDArray[np.float32]]) -> None:
    """Runs one image; results: contiguous arrays of the outputs' shapes, which are filled."""
    wanted = (Output * len(results))(*[Output(name.encode(), out.ctypes.data, out.size) for name, out in results.items()])
    if image.dtype == np.uint8:
        height, width = image.shape[:2]
        check(lib.vit_session_run_rgb(session.pointer, image.ctypes.data, width, height, 3 * width, wanted, len(wanted)))
    else:
        check(lib.vit_session_run_float(session.pointer, image.ctypes.data, 1, wanted, len(wanted)))
