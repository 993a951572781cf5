"""An open .qbin and the sessions that run it: what Model and Detector have in common."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_void_p, sizeof
from types import TracebackType
from typing import Any, TypeVar

from vitrun._library import Error, Handle, ModelOptions, SessionOptions, c_string, check, integer, lib, text

_Self = TypeVar("_Self", bound="Opened")


class Opened:
    """Owns the C library's model and a pool of sessions, one for each call that runs at once."""

    _session: str  #: what the C functions KIND_create and KIND_free make and free

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, isa: str | None = None,
                 verify: bool = False) -> None:
        self.path = os.path.abspath(os.fsdecode(path))
        self._threads, self._isa, self._verify = integer(threads, "threads", 0, 256), isa, bool(verify)
        pointer = c_void_p()
        options = ModelOptions(sizeof(ModelOptions), self._verify)
        check(lib.vit_model_open(c_string(self.path, "the path"), byref(options), byref(pointer)))
        self._handle: Handle | None = Handle(pointer, lib.vit_model_close)
        # Sessions by the C functions that make and free them. A deque needs no lock, which fork() could leave locked; in a
        # child of fork() idle sessions work on.
        self._idle: dict[str, deque[Handle]] = {self._session: deque()}
        self.name = text(lib.vit_model_name(pointer)) or ""
        self.classes: int = lib.vit_model_classes(pointer)
        self.file_bytes: int = lib.vit_model_file_bytes(pointer)
        self._idle[self._session].append(self._new_session(self._handle, self._session))  # an error of the options shows here

    @functools.cached_property
    def labels(self) -> list[str] | None:
        """A name for each class, or None if the model has none."""
        model = self._open_handle()  # held by name: close() may come from another thread meanwhile
        names = [text(lib.vit_model_label(model.pointer, i)) for i in range(self.classes)]
        return [name or "" for name in names] if names and names[0] is not None else None

    def metadata(self, key: str) -> str | None:
        """An entry of the file ("recipe.method", "preprocess.mean") as text, or None; numbers are separated by spaces."""
        model = self._open_handle()
        return text(lib.vit_model_metadata(model.pointer, c_string(key, "the key")))

    def _open_handle(self) -> Handle:
        handle = self._handle
        if handle is None:
            raise Error(f"{self.path}: the model is closed")
        return handle

    def _new_session(self, model: Handle, kind: str) -> Handle:
        pointer = c_void_p()
        isa = None if self._isa is None else c_string(self._isa, "isa")
        options = SessionOptions(sizeof(SessionOptions), self._threads, 1, isa)
        check(getattr(lib, f"{kind}_create")(model.pointer, byref(options), byref(pointer)))
        return Handle(pointer, getattr(lib, f"{kind}_free"))

    @contextmanager
    def _borrowed(self, kind: str | None = None) -> Iterator[Handle]:
        """A session of this kind that only this call uses. Where close() comes meanwhile, it ends with the call."""
        kind = kind or self._session
        idle, model = self._idle.setdefault(kind, deque()), self._open_handle()
        try:
            session = idle.pop()
        except IndexError:
            session = self._new_session(model, kind)
        try:
            yield session
        finally:
            idle.append(session)

    def close(self) -> None:
        """Closes the model, which cannot be used any more; calls that are running end as usual. A second time is nothing.

        A model that nothing refers to is closed by itself.
        """
        self._handle = None
        self._idle = {}

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        self._open_handle()
        return functools.partial(type(self), self.path, threads=self._threads, isa=self._isa, verify=self._verify), ()
