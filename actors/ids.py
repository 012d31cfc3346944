"""Which Arrow types an id may have, and their names in `_run.json`: whole numbers, strings, UUIDs."""

from __future__ import annotations

import pyarrow as pa

_UUIDS = {str(type_): type_ for type_ in (pa.uuid(), pa.binary(16))}


def is_id_type(type_: pa.DataType) -> bool:
    """Whether a column of this type can name rows. A UUID is Arrow's extension type or 16 bytes."""
    text = pa.types.is_string(type_) or pa.types.is_large_string(type_)
    return bool(pa.types.is_integer(type_) or text or type_ in _UUIDS.values())


def id_type_of(name: str) -> pa.DataType:
    """The type whose `str` this is. Raises ValueError when it is not that of an id."""
    type_ = _UUIDS.get(name) or pa.type_for_alias(name)
    if not is_id_type(type_):
        raise ValueError(f"id_type {name} is not that of an id")
    return type_


def plain(ids: pa.Array) -> pa.Array:
    """`ids` without Arrow's extension type, for which few functions are there."""
    return ids.storage if isinstance(ids, pa.ExtensionArray) else ids
