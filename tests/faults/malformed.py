"""Messages that no honest wristband sends, from a seed, each with the name of its kind.

Every kind knows how the messages of a wristband are built: the safetensors file (`malformed_files`)
and its tensors' entries (`malformed_entries`), the JSON header in it (`malformed_headers`), what both
say (`malformed_claims`), and how they are addressed (`malformed_letters`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.faults import (  # each registers its kinds
    malformed_claims,
    malformed_entries,
    malformed_files,
    malformed_headers,
    malformed_letters,
)
from tests.faults.hostile import KINDS, Case, Hostile, Letter, Target

MODULES = (
    malformed_claims,
    malformed_entries,
    malformed_files,
    malformed_headers,
    malformed_letters,
)


def make(target: Target, name: str, rng: random.Random) -> Hostile:
    """One message of a kind."""
    chosen = KINDS[name]
    case = Case(target, rng.choice(target.devices), rng.choice(chosen.subjects), rng)
    made = chosen.make(case)
    letter = (
        Letter(made, target.topic(case.device, case.subject)) if isinstance(made, bytes) else made
    )
    return Hostile(name, case.device, letter.topic, letter.payload, chosen.right, letter.properties)


def messages(target: Target, seed: int, num: int) -> Iterator[Hostile]:
    """`num` messages, all kinds in turn, in an order of `seed`'s."""
    rng = random.Random(seed)
    names = sorted(KINDS)
    for start in range(0, num, len(names)):
        rng.shuffle(names)
        for name in names[: num - start]:
            yield make(target, name, rng)
