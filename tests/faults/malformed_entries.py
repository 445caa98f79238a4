"""Safetensors files whose entries of tensors are not right: offsets, dtypes, shapes, keys."""

from __future__ import annotations

import json

from tests.faults.hostile import ANY_BUT_STORED, Case, kind
from tests.faults.malformed_files import JUNK, METADATA, file_of, taken_apart

FOREIGN_DTYPES = (
    *("F16", "BF16", "F8_E4M3", "F8_E5M2", "F4", "C64"),
    *("U8", "U16", "U32", "U64", "I32", "BOOL", "X99", "i16"),
)


def with_entry(case: Case, **changes: object) -> bytes:
    """The valid file with one tensor's entry changed."""
    header, body = taken_apart(case.valid)
    name = case.rng.choice([name for name in header if name != METADATA])
    header[name] = header[name] | changes
    return file_of(header, body)


@kind("malformed")
def offsets_overlap(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    name = case.rng.choice([name for name in header if name != METADATA])
    return file_of(header | {"extra": header[name]}, body)


@kind("malformed")
def offsets_backwards(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    name = case.rng.choice([name for name in header if name != METADATA])
    header[name]["data_offsets"].reverse()
    return file_of(header, body)


@kind("malformed")
def offsets_beyond_the_file(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    return file_of(header, body[: case.rng.randrange(len(body))])


@kind("malformed")
def offsets_that_are_none(case: Case) -> bytes:
    number = case.rng.choice(
        (-1, 1 << 31, 1 << 63, (1 << 64) - 1, 1 << 64, 1.5, "0", None, 10**400)
    )
    return with_entry(case, data_offsets=case.rng.choice([[0, number], [number, number], [number]]))


@kind("malformed")
def offsets_of_other_type(case: Case) -> bytes:
    return with_entry(case, data_offsets=case.rng.choice((*JUNK, [0, 1, 2])))


@kind("malformed")
def offsets_with_a_hole(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    for name in header.keys() - {METADATA}:
        header[name]["data_offsets"] = [place + 8 for place in header[name]["data_offsets"]]
    return file_of(header, bytes(8) + body)


@kind("malformed")
def foreign_dtype(case: Case) -> bytes:
    return with_entry(case, dtype=case.rng.choice(FOREIGN_DTYPES))


@kind("malformed")
def foreign_dtype_of_nothing(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    entry = {"dtype": case.rng.choice(FOREIGN_DTYPES), "shape": [0], "data_offsets": [0, 0]}
    return file_of(header | {"extra": entry}, body)


@kind("malformed")
def dtype_of_other_type(case: Case) -> bytes:
    return with_entry(case, dtype=case.rng.choice(JUNK))


@kind("malformed")
def shape_that_overflows(case: Case) -> bytes:
    shapes = [1 << 63, 2], [1 << 62, 4], [1 << 32, 1 << 32], [(1 << 64) - 1], [1 << 16] * 5
    return with_entry(case, shape=case.rng.choice(shapes))


@kind("malformed")
def shape_that_is_none(case: Case) -> bytes:
    number = case.rng.choice((-1, 1.5, "3", None, True, 1 << 64, 10**400, 1e300))
    return with_entry(case, shape=[number])


@kind("malformed")
def shape_of_other_type(case: Case) -> bytes:
    return with_entry(case, shape=case.rng.choice((*JUNK[:6], {}, {"a": 1}, 10**30)))


@kind("malformed", "wrong_shape")
def dimensions_of_zero(case: Case) -> bytes:
    shapes = [0], [0, 3], [0, 1 << 62], [1 << 40, 0], [0] * 40, [0, (1 << 64) - 1]
    header, body = taken_apart(case.valid)
    entry = {"dtype": "I16", "shape": case.rng.choice(shapes), "data_offsets": [0, 0]}
    return file_of(header | {"extra": entry}, body)


@kind("malformed", "wrong_shape", "oversize")
def many_tensors(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    num = case.rng.choice((500, 1000, 10_000))
    entry = {"dtype": "I8", "shape": [0], "data_offsets": [0, 0]}
    return file_of(header | {f"{n}": entry for n in range(num)}, body)


@kind("malformed", "wrong_shape", "oversize")
def tensor_with_a_long_name(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    entry = {"dtype": "I8", "shape": [0], "data_offsets": [0, 0]}
    name = case.rng.choice(("x", "\0", "é", "\U0001f600", "\ufeff")) * case.rng.randrange(20_000)
    return file_of(header | {name + "!": entry}, body)


@kind("malformed")
def entry_of_other_type(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    name = case.rng.choice([name for name in header if name != METADATA])
    return file_of(header | {name: case.rng.choice(JUNK)}, body)


@kind("malformed")
def entry_lacks_a_key(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    name = case.rng.choice([name for name in header if name != METADATA])
    del header[name][case.rng.choice(("dtype", "shape", "data_offsets"))]
    return file_of(header, body)


@kind(*ANY_BUT_STORED)
def entry_has_another_key(case: Case) -> bytes:
    return with_entry(case, offset=case.rng.choice(JUNK))


@kind(*ANY_BUT_STORED)
def key_given_twice(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    key, value = case.rng.choice(list(header.items()))
    other = case.rng.choice(list(header.values()))
    first, second = case.rng.sample((value, other), 2)
    rest = json.dumps({k: v for k, v in header.items() if k != key})[1:]
    twice = f"{{{json.dumps(key)}: {json.dumps(first)}, {json.dumps(key)}: {json.dumps(second)}, "
    return file_of((twice + rest).encode(), body)


@kind(*ANY_BUT_STORED)
def dtype_given_twice(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    text = json.dumps(header)
    first = case.rng.choice(FOREIGN_DTYPES)
    text = text.replace('"dtype": ', f'"dtype": "{first}", "dtype": ', case.rng.randrange(1, 3))
    return file_of(text.encode(), body)
