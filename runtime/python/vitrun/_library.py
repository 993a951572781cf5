"""The C ABI of libvitrun.so by ctypes, which releases the GIL while a function runs; vitrun.h is the contract."""

from __future__ import annotations

import ctypes
import operator
import os
import pathlib
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_ssize_t, c_void_p
from typing import Any


class Error(Exception):
    """What went wrong, in words: what was expected and what was found.

    Attributes:
        status: the C ABI's name of it: VIT_ERROR_ARGUMENT (the caller's mistake), VIT_ERROR_FILE (the system could not
            open a file), VIT_ERROR_MODEL (no usable .qbin), VIT_ERROR_MEMORY, VIT_ERROR_SYSTEM.
    """

    def __init__(self, text: str, status: str = "VIT_ERROR_ARGUMENT") -> None:
        super().__init__(text, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class ModelOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("verify", c_int)]


class SessionOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("threads", c_int), ("max_batch", c_int), ("isa", c_char_p)]


class Output(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("data", c_void_p), ("size", c_size_t)]


class TopPrediction(ctypes.Structure):
    _fields_ = [("class_index", c_int), ("logit", c_float), ("probability", c_float)]


class FoundObject(ctypes.Structure):
    _fields_ = [("x1", c_float), ("y1", c_float), ("x2", c_float), ("y2", c_float), ("score", c_float), ("class_index", c_int)]


# The C functions that the package calls: what each returns and takes.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "vit_status_name": (c_char_p, [c_int]),
    "vit_last_error": (c_char_p, []),
    "vit_version": (c_int, []),
    "vit_isa_names": (c_char_p, []),
    "vit_model_open": (c_int, [c_char_p, POINTER(ModelOptions), POINTER(c_void_p)]),
    "vit_model_close": (None, [c_void_p]),
    "vit_model_name": (c_char_p, [c_void_p]),
    "vit_model_width": (c_int, [c_void_p]),
    "vit_model_height": (c_int, [c_void_p]),
    "vit_model_classes": (c_int, [c_void_p]),
    "vit_model_outputs": (c_int, [c_void_p]),
    "vit_model_output_name": (c_char_p, [c_void_p, c_int]),
    "vit_model_output_rows": (c_int, [c_void_p, c_int]),
    "vit_model_output_cols": (c_int, [c_void_p, c_int]),
    "vit_model_label": (c_char_p, [c_void_p, c_int]),
    "vit_model_metadata": (c_char_p, [c_void_p, c_char_p]),
    "vit_model_file_bytes": (c_size_t, [c_void_p]),
    "vit_session_create": (c_int, [c_void_p, POINTER(SessionOptions), POINTER(c_void_p)]),
    "vit_session_free": (None, [c_void_p]),
    "vit_session_run_rgb": (c_int, [c_void_p, c_void_p, c_int, c_int, c_ssize_t, POINTER(Output), c_int]),
    "vit_session_run_float": (c_int, [c_void_p, c_void_p, c_int, POINTER(Output), c_int]),
    "vit_detector_create": (c_int, [c_void_p, POINTER(SessionOptions), POINTER(c_void_p)]),
    "vit_detector_free": (None, [c_void_p]),
    "vit_detector_run_rgb": (c_int, [c_void_p, c_void_p, c_int, c_int, c_ssize_t, POINTER(c_int)]),
    "vit_detector_get": (c_int, [c_void_p, c_int, POINTER(FoundObject)]),
    "vit_detector_mask": (c_int, [c_void_p, c_int, c_void_p, c_size_t]),
    "vit_detector_mask_counts": (c_char_p, [c_void_p, c_int]),
    "vit_detector_memory_for": (c_size_t, [c_void_p, c_int, c_int]),
    "vit_model_takes_texts": (c_int, [c_void_p]),
    "vit_text_encoder_create": (c_int, [c_void_p, POINTER(SessionOptions), POINTER(c_void_p)]),
    "vit_text_encoder_free": (None, [c_void_p]),
    "vit_text_encoder_cols": (c_int, [c_void_p]),
    "vit_text_encoder_logit_scale": (c_float, [c_void_p]),
    "vit_text_encoder_run": (c_int, [c_void_p, c_char_p, c_void_p, c_size_t]),
    "vit_text_encoder_run_class": (c_int, [c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, c_size_t]),
    "vit_cosines": (c_int, [c_void_p, c_void_p, c_int, c_int, c_float, c_void_p]),
    "vit_top_k": (c_int, [c_void_p, c_int, c_int, POINTER(TopPrediction)]),
}


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(str(pathlib.Path(__file__).with_name("libvitrun.so")))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib = _load()


def text(value: bytes | None) -> str | None:
    """A C string in UTF-8, or None for NULL."""
    return None if value is None else value.decode("utf-8", errors="replace")


def c_string(value: str | bytes, what: str, encode: Any = os.fsencode) -> bytes:
    """Bytes for the library, which would not see what follows a NUL."""
    encoded: bytes = encode(value)
    if b"\0" in encoded:
        raise Error(f"{what} has a NUL character in it: {value!r}")
    return encoded


def integer(value: int, what: str, low: int, high: int) -> int:
    """A whole number in range: ctypes would cut a larger one without a word."""
    number = operator.index(value)
    if not low <= number <= high:
        raise Error(f"{what} must be {low} to {high}, got {number}")
    return number


def check(status: int) -> None:
    """Raises the library's words for a status that is not VIT_OK; called by the thread that got it."""
    if status:
        raise Error(text(lib.vit_last_error()) or "", text(lib.vit_status_name(status)) or "")


class Handle:
    """Owns a C object and frees it when nothing refers to this one any more; a call that runs refers to its own."""

    def __init__(self, pointer: c_void_p, free: Any) -> None:
        self.pointer = pointer
        self._free = free

    def __del__(self) -> None:
        self._free(self.pointer)
