"""The folder of a study: what it is of, and a folder for each chunk, committed by one rename.

    spec.json                     the study and its hash
    chunks/000012-1a2b3c4d/       data.npz and receipt.json of chunk 12, whole or not there
    failed/000012.json            why chunk 12 raised, until it is done
    damaged/                      chunks that no longer are what their receipts say

Nothing is ever unpickled. Any number of processes may write to one store: a chunk's numbers do
not depend on who computed it, and only the first rename counts.
"""

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
import threading
import traceback
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..declare.plan import Chunk
from ..declare.spec import FORMAT, Study
from .batch import Lanes

_DATA, _RECEIPT = "data.npz", "receipt.json"


class StoreError(OSError):
    """A store cannot be read or written; the message says why and what to do."""

    def __str__(self) -> str:
        """Return the message without the system's number."""
        return self.strerror or super().__str__()


class Store:
    """A study's folder.

    Attributes:
        path: The folder.
        study: Of which study it is.
    """

    def __init__(self, path: Path, study: Study):
        self.path, self.study = Path(path), study

    @classmethod
    def create(cls, path: str | Path, study: Study) -> "Store":
        """Open the folder for a study; make it if it is not there.

        Raises:
            ValueError: If it belongs to another study; the message says what differs.
            StoreError: If it cannot be written.
        """
        store = cls(Path(path), study)
        with explained(store.path):
            for folder in ("chunks", "failed", "damaged"):
                (store.path / folder).mkdir(parents=True, exist_ok=True)
        spec = store.path / "spec.json"
        if spec.exists():
            _same(read_study(path), study, store.path)
        else:
            text = {"format": FORMAT, "hash": study.hash, "study": json.loads(study.canonical())}
            with explained(store.path):
                _write(spec, json.dumps(text, indent=1, sort_keys=True).encode())
        return store

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a folder that is there.

        Raises:
            ValueError: If it is no study's.
        """
        return cls(Path(path), read_study(path))

    def folder(self, chunk: int) -> Path:
        """Return where a chunk is kept."""
        return self.path / "chunks" / f"{chunk:06d}-{self.study.hash[:8]}"

    def put(self, chunk: Chunk, runs: np.ndarray, lanes: Lanes, receipt: dict[str, Any]) -> dict:
        """Write a chunk, whole or not at all, and return its receipt.

        Raises:
            StoreError: If it cannot be written.
        """
        final = self.folder(chunk.index)
        with explained(self.path):
            aside = scratch(final.parent)
            try:
                with (aside / _DATA).open("wb") as file:
                    np.savez(file, allow_pickle=False, run=runs, **lanes)
                    _flush(file)
                receipt = {
                    **receipt,
                    "chunk": chunk.index,
                    "hash": self.study.hash,
                    "sha256": _digest(aside / _DATA),
                }
                with (aside / _RECEIPT).open("wb") as file:
                    file.write(json.dumps(receipt, sort_keys=True).encode())
                    _flush(file)
                _flush_folder(aside)
                _rename(aside, final)
                _flush_folder(final.parent)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        (self.path / "failed" / f"{chunk.index:06d}.json").unlink(missing_ok=True)
        return receipt

    def get(self, chunk: int) -> Lanes:
        """Return a chunk's arrays; `run` are the numbers of its runs.

        Raises:
            ValueError: If it is damaged.
        """
        try:
            with np.load(self.folder(chunk) / _DATA, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"Chunk {chunk} of {self.path} is damaged: {error}.") from error

    def receipt(self, chunk: int) -> dict[str, Any] | None:
        """Return a chunk's receipt; `None` if the chunk is not there, or is damaged."""
        folder = self.folder(chunk)
        try:
            receipt = json.loads((folder / _RECEIPT).read_bytes())
            right = receipt["hash"] == self.study.hash and receipt["chunk"] == chunk
            return receipt if right and receipt["sha256"] == _digest(folder / _DATA) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def sweep(self, chunks: Iterable[int]) -> tuple[dict[int, dict[str, Any]], list[int]]:
        """Look at every chunk; move damaged ones aside, and remove what dead writers left.

        Returns:
            The receipts of the chunks that are done, and which were damaged.
        """
        with explained(self.path):
            self.clear()
        present = {int(p.name[:6]) for p in (self.path / "chunks").glob("[0-9]*-*")}
        done, damaged = {}, []
        for chunk in chunks:
            if chunk not in present:
                continue
            receipt = self.receipt(chunk)
            if receipt is None:
                damaged.append(chunk)
                self._set_aside(chunk)
            else:
                done[chunk] = receipt
        return done, damaged

    def fail(self, chunk: int, error: BaseException) -> None:
        """Note why a chunk raised."""
        lines = traceback.format_exception(error)
        text = {"chunk": chunk, "error": f"{type(error).__name__}: {error}", "trace": lines[-12:]}
        with explained(self.path):
            _write(self.path / "failed" / f"{chunk:06d}.json", json.dumps(text, indent=1).encode())

    def failures(self) -> dict[int, str]:
        """Return the chunks that raised when they were last tried, and the errors."""
        found = {}
        for path in sorted((self.path / "failed").glob("*.json")):
            said = json.loads(path.read_bytes())
            found[int(said["chunk"])] = str(said["error"])
        return found

    def _set_aside(self, chunk: int) -> None:
        folder = self.folder(chunk)
        with explained(self.path):
            place = tempfile.mkdtemp(prefix=folder.name + "-", dir=self.path / "damaged")
            os.rename(folder, Path(place) / "chunk")

    def clear(self) -> None:
        """Remove what writers of this machine left that are no longer alive."""
        prefix = f".{socket.gethostname()}-"
        for folder in (self.path, self.path / "chunks", self.path / "failed"):
            for path in folder.glob(prefix + "*"):
                owner = path.name.removeprefix(prefix).split("-")[0]
                if owner.isdigit() and int(owner) != os.getpid() and not _alive(int(owner)):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def scratch(folder: Path) -> Path:
    """Make a hidden folder to write in, whose name tells which process it belongs to."""
    return Path(tempfile.mkdtemp(prefix=f".{socket.gethostname()}-{os.getpid()}-", dir=folder))


def read_study(path: str | Path) -> Study:
    """Return of which study a folder is; raises `ValueError` if of none."""
    spec = Path(path) / "spec.json"
    try:
        said = json.loads(spec.read_text(encoding="utf-8"))
        study = Study(**said["study"])
    except FileNotFoundError:
        raise ValueError(
            f"Argument `path` must be the folder of a study, but {path} has no spec.json."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{spec} is not the description of a study: {error}") from error
    if said.get("format") != FORMAT or said.get("hash") != study.hash:
        raise ValueError(
            f"{spec} was changed by hand or written by another version (format "
            f"{said.get('format')}, here {FORMAT}). Use a new folder."
        )
    return study


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the file system into messages that say what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        again = "What is done is kept; the same command goes on."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = f"The disk of {path} is full. Make room. {again}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            said = f"There is no permission to write to {path}. {again}"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            said = f"{path} cannot be a folder: a file is in the way ({error.filename})."
        else:
            said = f"{path} cannot be written: {error}. {again}"
        raise StoreError(error.errno, said) from error


def _same(there: Study, wanted: Study, path: Path) -> None:
    if there.hash == wanted.hash:
        return
    old, new = json.loads(there.canonical()), json.loads(wanted.canonical())
    differ = [key for key in new if old.get(key) != new[key]]
    said = "; ".join(f"`{k}` is {_short(old.get(k))} there, {_short(new[k])} here" for k in differ)
    raise ValueError(
        f"Argument `out` must be a new folder or one of this study, but {path} is of another: "
        f"{said}."
    )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _rename(aside: Path, final: Path) -> None:
    """Commit; if another writer was first, its chunk is the same and stays."""
    try:
        os.rename(aside, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _write(path: Path, content: bytes) -> None:
    name = f".{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}-{path.name}"
    aside = path.with_name(name)
    with aside.open("wb") as file:
        file.write(content)
        _flush(file)
    os.replace(aside, path)
    _flush_folder(path.parent)


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
