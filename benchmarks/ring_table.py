"""What the ring benchmark's seconds mean: limits, ratios, crossover."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

COLUMNS = {
    "parameter_server_s": "parameter server",
    "parameter_server_pipelined_s": "pipelined",
    "gloo_s": "torch gloo",
    "horovod_bare_s": "Horovod bare",
    "ours_s": "ours",
    "ours_8bit_s": "ours, 8 bit",
    "limit_s": "limit",
}


def limit_s(payload_bytes: int, num_sites: int, mbit: float) -> float:
    """Least time of a ring: every link carries 2(n-1)/n of the payload each way.

    Source: Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms, 2009.

    >>> limit_s(25_000_000, 10, 1000)
    0.36
    """
    return round(2 * (num_sites - 1) / num_sites * payload_bytes * 8e-6 / mbit, 5)


def crossover_bytes(star: Mapping[int, float], ring: Mapping[int, float]) -> int | None:
    """Payload from which on the ring is faster, between the sizes measured, by log interpolation.

    None when the ring is slower at the largest size; the smallest size when it is faster at all.

    >>> crossover_bytes({100: 1.0, 10_000: 4.0}, {100: 2.0, 10_000: 2.0})
    1000
    """
    sizes = sorted(star)
    gains = {size: math.log(star[size] / ring[size]) for size in sizes}
    if gains[sizes[-1]] <= 0:
        return None
    slower = [size for size in sizes if gains[size] <= 0]
    if not slower:
        return sizes[0]
    low = slower[-1]
    high = sizes[sizes.index(low) + 1]
    share = -gains[low] / (gains[high] - gains[low])
    return round(low * math.pow(high / low, share))


def payload_name(num_bytes: int) -> str:
    """Such as 25MB or 40kB.

    >>> payload_name(25_000_000), payload_name(40_000)
    ('25MB', '40kB')
    """
    return f"{num_bytes // 10**6}MB" if num_bytes >= 10**6 else f"{num_bytes // 10**3}kB"


def tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """Seconds of every arm, and ours in relation to its peers."""
    num = document["num_sites"]
    for key in ("figures", "figures_100mbit"):
        if key in document:
            mbit = 100 if key.endswith("mbit") else 1000
            yield _seconds(document, key, f"{num} sites at {mbit} Mbit/s: seconds, medians", mbit)
    if "scaling" in document:
        yield _scaling(document["scaling"])


def _seconds(document: Mapping[str, Any], key: str, title: str, mbit: int) -> Table:
    crossover = document[f"crossover_bytes_{mbit}mbit"]
    goodput = document[f"goodput_{mbit}mbit"]
    caption = f"limit 2(n-1)/n·S/B at the {goodput:.0f} Mbit/s that one stream carried; " + (
        "the ring is slower at all sizes"
        if crossover is None
        else f"the ring is faster than the server from {crossover / 1000:.0f} kB on"
    )
    table = Table(title=title, caption=caption)
    ratios = ("server/ours", "bare/ours", "ours/limit")
    for heading in ("payload", *COLUMNS.values(), *ratios):
        table.add_column(heading, justify="right")
    for payload, row in document[key].items():
        ours = row["ours_s"]
        shares = (
            row["parameter_server_s"] / ours, row["horovod_bare_s"] / ours, ours / row["limit_s"],
        )  # fmt: skip
        seconds = (f"{row[name]:.4f}" if name in row else "" for name in COLUMNS)
        table.add_row(payload, *seconds, *(f"{share:.2f}" for share in shares))
    return table


def _scaling(scaling: Mapping[str, Any]) -> Table:
    table = Table(title=f"{scaling['payload']} at {scaling['mbit']} Mbit/s: seconds, medians")
    for heading in ("sites", "parameter server", "ours", "limit", "server/ours"):
        table.add_column(heading, justify="right")
    for point in scaling["points"]:
        star, ours, limit = (point[f"{n}_s"] for n in ("parameter_server", "ours", "limit"))
        table.add_row(
            str(point["num_sites"]),
            f"{star:.3f}",
            f"{ours:.3f}",
            f"{limit:.3f}",
            f"{star / ours:.1f}",
        )
    return table
