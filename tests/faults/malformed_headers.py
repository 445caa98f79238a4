"""Files whose metadata is not ours, or whose JSON header breaks the schema."""

from __future__ import annotations

import json
from typing import Any

from tests.faults.hostile import ANY_BUT_STORED, Case, kind
from tests.faults.malformed_files import JUNK, METADATA, file_of, taken_apart

KEY = "pulsering"
NAMES = "a/b", "+", "#", "a\0", "A", "", "é", "../x", "x" * 49, "-a", "a b", "$SYS", "a\n", "\ufeff"
NUMBERS = (
    "-1",
    "1e400",
    "9" * 5000,
    "NaN",
    "Infinity",
    "-Infinity",
    str(1 << 63),
    str(1 << 64),
    "1.5",
)
NONE_OF_A_NUMBER: tuple[Any, ...] = (None, "x y", [], {}, -1, 1.5, 1 << 60, 1e300, [[[]]])
IDENTITY = "region", "hospital", "device"


def with_metadata(case: Case, metadata: object) -> bytes:
    """The valid file with other metadata."""
    header, body = taken_apart(case.valid)
    return file_of(header | {METADATA: metadata}, body)


def with_header(case: Case, text: str) -> bytes:
    """The valid file with another JSON header."""
    return with_metadata(case, {KEY: text})


def stated(case: Case) -> dict[str, Any]:
    """The valid message's own header."""
    header: dict[str, Any] = json.loads(taken_apart(case.valid)[0][METADATA][KEY])
    return header


def number_fields(header: dict[str, Any]) -> list[str]:
    """Those that hold a count or a number."""
    return [name for name in header if name.startswith(("num_", "round_"))]


@kind("malformed")
def no_metadata(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    del header[METADATA]
    return file_of(header, body)


@kind("malformed")
def metadata_under_another_key(case: Case) -> bytes:
    text = json.dumps(stated(case))
    return with_metadata(case, {case.rng.choice(("Pulsering", "", "pulsering\0", "format")): text})


@kind("malformed")
def metadata_with_more_keys(case: Case) -> bytes:
    return with_metadata(case, {KEY: json.dumps(stated(case)), "format": "pt"})


@kind(*ANY_BUT_STORED)
def metadata_key_given_twice(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    own = f'"{KEY}": '
    twice = own + json.dumps(case.rng.choice(("", "{}", header[METADATA][KEY]))) + ", " + own
    return file_of(json.dumps(header).replace(own, twice, 1).encode(), body)


@kind("malformed")
def metadata_of_other_type(case: Case) -> bytes:
    return with_metadata(case, case.rng.choice(JUNK))


@kind("malformed")
def header_is_no_text(case: Case) -> bytes:
    return with_metadata(case, {KEY: case.rng.choice((None, 1, 1.5, True, [], {}, stated(case)))})


@kind("schema")
def header_is_no_object(case: Case) -> bytes:
    texts = "", " ", "null", "[]", "1", '"x"', "{", "}", "{}{}", "nul", "\0", "\ufeff{}", "{'a': 1}"
    return with_header(case, case.rng.choice(texts))


@kind("schema", "malformed", "oversize")
def header_nested_deeply(case: Case) -> bytes:
    depth = case.rng.choice((100, 300, 20_000))
    text = case.rng.choice(("[", '{"a":')) * depth
    return with_header(
        case, case.rng.choice((text, json.dumps(stated(case))[:-1] + ',"x":' + text))
    )


@kind("schema")
def header_cut(case: Case) -> bytes:
    text = json.dumps(stated(case))
    return with_header(case, text[: case.rng.randrange(len(text))])


@kind("schema")
def unknown_field(case: Case) -> bytes:
    name = case.rng.choice(("surprise", "", "__class__", "kind ", "Device", "x" * 5000, "\0"))
    return with_header(case, json.dumps(stated(case) | {name: case.rng.choice(JUNK)}))


@kind("schema")
def thousand_unknown_fields(case: Case) -> bytes:
    return with_header(case, json.dumps(stated(case) | {f"f{n}": n for n in range(1000)}))


@kind("schema", "malformed", "oversize", subjects=("evaluation",))
def thousands_of_models(case: Case) -> bytes:
    many = [case.rng.choice((0, "", None))] * case.rng.choice((1000, 20_000))
    return with_header(case, json.dumps(stated(case) | {"models": many}))


@kind("malformed")
def header_as_long_as_a_message(case: Case) -> bytes:
    header, body = taken_apart(case.valid)
    return file_of(json.dumps(header).encode() + b" " * (64 << 10), body)


@kind("schema")
def missing_field(case: Case) -> bytes:
    header = stated(case)
    del header[case.rng.choice([name for name in header if name not in ("kind", "schema_version")])]
    return with_header(case, json.dumps(header))


@kind("schema")
def field_of_other_type(case: Case) -> bytes:
    header = stated(case)
    name = case.rng.choice(sorted(header.keys() - {"models"}))  # where [] is not wrong
    return with_header(case, json.dumps(header | {name: case.rng.choice(NONE_OF_A_NUMBER[:4])}))


@kind("schema")
def number_out_of_range(case: Case) -> bytes:
    header = stated(case)
    name = case.rng.choice(number_fields(header))
    return with_header(case, json.dumps(header | {name: case.rng.choice(NONE_OF_A_NUMBER)}))


@kind("schema")
def number_that_no_json_has(case: Case) -> bytes:
    header = stated(case)
    name = case.rng.choice(number_fields(header))
    text = json.dumps(header | {name: "@"}).replace('"@"', case.rng.choice(NUMBERS))
    return with_header(case, text)


@kind("schema")
def name_that_is_none(case: Case) -> bytes:
    name = case.rng.choice(IDENTITY)
    return with_header(case, json.dumps(stated(case) | {name: case.rng.choice(NAMES)}))


@kind("schema")
def name_with_half_a_character(case: Case) -> bytes:
    text = json.dumps(stated(case)).replace(
        case.device, case.rng.choice(("\\ud800", "\\udfff", "\\u"))
    )
    return with_header(case, text)


@kind("schema")
def digest_that_is_none(case: Case) -> bytes:
    digest = case.rng.choice(("", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"))
    field, value = ("base_digest", digest) if case.subject == "update" else ("models", [digest])
    return with_header(case, json.dumps(stated(case) | {field: value}))


@kind("schema")
def version_of_the_future(case: Case) -> bytes:
    version = case.rng.choice((0, -1, 3, 99, 1 << 40, "one", None, 1.5, [1]))
    return with_header(case, json.dumps(stated(case) | {"schema_version": version}))


@kind("schema")
def kind_of_another_message(case: Case) -> bytes:
    kinds = {"model", "round", "update", "evaluation", "aggregate", ""} - {case.subject}
    return with_header(case, json.dumps(stated(case) | {"kind": case.rng.choice(sorted(kinds))}))


@kind("schema")
def message_of_the_other_subject(case: Case) -> bytes:
    return case.target.valid(
        case.device, "update" if case.subject == "evaluation" else "evaluation"
    )
