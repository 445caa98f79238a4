"""Messages under addresses that are nobody's or another's, and with properties that nobody needs."""

from __future__ import annotations

from common import topics
from tests.builders.raw_mqtt import text, user_property
from tests.faults.hostile import PASSED_OVER, Case, Letter, kind

NO_NAMES = "", "A", "é", "x" * 49, "x" * 60_000, "a b", "..", "$SYS", "\ufeff", "a\u202eb"
WILD = "+", "#", "a+b", "a\0b"
PROPERTIES = (
    user_property("key", "\ufeff"),
    user_property("\ufeff", "value"),
    b"\x03" + text("\ufeff"),
    b"\x08" + text("\ufeff/receipt"),
    user_property("", "") * 1000,
    user_property("k" * 60_000, "v" * 60_000),
    b"\x01\x01",
    b"\x02\xff\xff\xff\xff",
    b"\x09" + text(bytes(60_000)),
)


@kind("wrong_identity")
def sender_without_a_name(case: Case) -> Letter:
    return Letter(case.valid, case.target.topic(case.rng.choice(NO_NAMES), case.subject))


@kind("wrong_identity")
def sender_with_wildcards(case: Case) -> Letter:
    return Letter(case.valid, case.target.topic(case.rng.choice(WILD), case.subject))


@kind("wrong_identity")
def topic_of_a_stranger(case: Case) -> Letter:
    name = f"ghost-{case.rng.randrange(10**9)}"
    return Letter(case.valid, case.target.topic(name, case.subject))


@kind("unknown_device")
def unknown_device(case: Case) -> Letter:
    name = f"ghost-{case.rng.randrange(10**9)}"
    return Letter(case.target.message(name, case.subject), case.target.topic(name, case.subject))


@kind("not_invited", "unknown_device")
def device_not_invited(case: Case) -> Letter:
    name = case.target.uninvited
    return Letter(case.target.valid(name, case.subject), case.target.topic(name, case.subject))


@kind("wrong_identity")
def address_elsewhere(case: Case) -> Letter:
    """Header and topic agree on a hospital or region that is not this one."""
    there = case.rng.choice(({"hospital": "elsewhere"}, {"region": "elsewhere"}))
    region = there.get("region", case.target.spec.region)
    hospital = there.get("hospital", case.target.hospital)
    topic = f"{topics.PREFIX}/{region}/{hospital}/{case.device}/{case.subject}"
    return Letter(case.target.message(case.device, case.subject, **there), topic)


@kind(PASSED_OVER)
def leaf_that_nobody_answers(case: Case) -> Letter:
    leaf = case.rng.choice(("status", "invite", "receipt", "Update", "", "update ", "updates"))
    return Letter(case.valid, case.target.topic(case.device, leaf))


@kind(PASSED_OVER)
def topic_of_other_depth(case: Case) -> Letter:
    topic = case.target.topic(case.device, case.subject)
    others = f"{topic}/more", f"/{topic}", topic.partition("/")[2], "", "update", "x" * 60_000
    return Letter(case.valid, case.rng.choice(others))


@kind(PASSED_OVER)
def topic_of_another_version(case: Case) -> Letter:
    topic = case.target.topic(case.device, case.subject)
    return Letter(case.valid, topic.replace("/v1/", case.rng.choice(("/v2/", "/V1/", "/v1\0/"))))


@kind("malformed")
def properties_that_nobody_needs(case: Case) -> Letter:
    topic = case.target.topic(case.device, case.subject)
    return Letter(case.valid[:-1], topic, case.rng.choice(PROPERTIES))
