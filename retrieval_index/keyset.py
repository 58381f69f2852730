"""Many ids in little memory: 16 bytes each, sorted, shared by processes without copying."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

_ID = np.dtype("S16")


class KeySet:
    """A set of ids of 32 hex digits, which is never added to."""

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys

    @classmethod
    def of(cls, columns: Iterable[pa.Array]) -> "KeySet":
        """All ids of some columns of text; each may occur often, and nulls are left out."""
        parts = [_packed(column.drop_null()) for column in columns]
        return cls(np.unique(np.concatenate([np.empty(0, _ID), *parts])))

    def __contains__(self, key: str) -> bool:
        wanted = np.frombuffer(bytes.fromhex(key), _ID)[0]
        place = int(np.searchsorted(self._keys, wanted))
        return place < len(self._keys) and bool(self._keys[place] == wanted)

    def __len__(self) -> int:
        return len(self._keys)


def _packed(column: pa.Array) -> np.ndarray:
    text = "".join(column.to_pylist())
    return np.frombuffer(bytes.fromhex(text), _ID)
