"""The columns of a table of the lake, and rows that fit them."""

import pyarrow as pa

from shoal.contract.errors import Invalid

DATE = "date"
"""The column by which a table is partitioned."""


def with_date(rows: pa.Table, day: str) -> pa.Table:
    """Rows of one day, with the column `date`."""
    if DATE in rows.column_names:
        raise Invalid("the column `date` is reserved for the lake")
    return rows.append_column(DATE, pa.array([day] * rows.num_rows, pa.string()))


def conform(rows: pa.Table, known: pa.Schema | None) -> pa.Table:
    """Rows in the types that a table has, or can have where the column is new.

    Args:
        rows: The rows.
        known: The table's columns; None where it has no rows.

    Raises:
        Invalid: A column has another type than in the table, or another spelling.
    """
    spelt = {} if known is None else {name.lower(): name for name in known.names}
    fields = []
    for field in rows.schema:
        name = spelt.setdefault(field.name.lower(), field.name)
        if name != field.name:
            raise Invalid(
                f"the columns `{name}` and `{field.name}` differ only in upper and lower case"
            )
        old = None if known is None or name not in known.names else known.field(name).type
        if old is None and not pa.types.is_null(field.type):
            fields.append(pa.field(name, _storable(name, field.type)))
        elif old is not None:
            fields.append(pa.field(name, _common(name, field.type, old)))
        # A column of nulls only says nothing of its type: leave it out.
    try:
        return rows.select([f.name for f in fields]).cast(pa.schema(fields))
    except pa.ArrowException as error:
        raise Invalid(f"the rows do not fit the table: {error}") from None


def _storable(name: str, kind: pa.DataType) -> pa.DataType:
    """The type in which values of a type are stored."""
    if pa.types.is_dictionary(kind):
        return _storable(name, kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_unsigned_integer(kind):
        return pa.int64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_duration(kind) or pa.types.is_time(kind) or pa.types.is_interval(kind):
        raise Invalid(f"the column `{name}` has the type {kind}, which the lake does not store")
    return kind


def _common(name: str, new: pa.DataType, old: pa.DataType) -> pa.DataType:
    """The table's type, where values of another type may be stored in it."""
    if pa.types.is_null(new):
        return old
    stored = _storable(name, new)
    if stored == old or (_is_number(stored) and _is_number(old)) or pa.types.is_nested(stored):
        return old
    raise Invalid(f"the column `{name}` is {old} in the table, not {new}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
