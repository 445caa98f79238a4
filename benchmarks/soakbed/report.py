"""A soak as JSON, as a table and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.faultbed.processes import trends
from benchmarks.soakbed import gauge
from benchmarks.soakbed.bed import STEADY
from benchmarks.soakbed.course import Soaked
from common.errors import PulseRingError
from simulators.local_region import edge_name

Document = dict[str, Any]
MINUTE_S = 60.0


def summary(soaked: Soaked, left: Iterable[str]) -> Document:
    """The figures of a soak.

    Raises
    ------
    PulseRingError
        When its books were not read, or a quarter has no reading.
    """
    proof = soaked.proof
    if proof is None:
        raise PulseRingError("the soak came to no end")
    of_quarters = gauge.quarters(soaked.readings, soaked.seconds)
    keeper = gauge.quarters(soaked.keeper, soaked.seconds)
    cpu_s = soaked.readings[-1].cpu_s - soaked.readings[0].cpu_s
    return {
        "minutes": round(soaked.seconds / MINUTE_S, 2),
        "num_faults": sum(soaked.num_faults.values()),
        "faults": soaked.num_faults,
        "rounds": sum(proof.ends.values()),
        "ends": proof.ends,
        "reasons_of_the_uncommitted": proof.reasons,
        "rounds_without_end": proof.num_nameless,
        "days_sealed": proof.num_days,
        "rings": proof.num_generations,
        "median_round_s": proof.median_round_s,
        "longest_gap_s": proof.longest_gap_s,
        "receipts": proof.num_receipts,
        "fates": proof.account.fates,
        "num_lost": proof.account.num_lost,
        "num_doubled": proof.account.num_doubled,
        "replayed": proof.replayed,
        "edge_node": {
            "hospital": STEADY,
            "quarters": of_quarters,
            **gauge.verdict(of_quarters),
            "cpu_share": round(cpu_s / soaked.seconds, 4),
            "messages": dict(sorted(soaked.messages.items())),
        },
        "keeper_quarters": keeper,
        "left_behind": list(left),
        "trends": [trend.as_json() for trend in trends(soaked.others)],
        "readings": {
            "of": edge_name(STEADY),
            "columns": list(vars(soaked.readings[0])),
            "rows": [reading.as_row() for reading in soaked.readings],
        },
        "fault_times": [
            {"at_s": round(done.at - soaked.began, 1), "what": done.what, "whom": done.whom}
            for done in soaked.faults
        ],
    }


def failures(document: Mapping[str, Any]) -> list[str]:
    """What a soak must not show, and this one does."""
    edge = document["edge_node"]
    wrong = {
        f"{document['num_lost']} updates lost": document["num_lost"],
        f"{document['num_doubled']} updates counted twice": document["num_doubled"],
        f"{document['rounds_without_end']} rounds without an end": document["rounds_without_end"],
        f"replay: {document['replayed']}": set(document["replayed"]) != {"equal"},
        f"the edge node's memory grew by {edge['rss_growth']:.1%}": not edge["memory_is_flat"],
        "the edge node's descriptors grew": not edge["descriptors_are_flat"],
        f"left behind: {'; '.join(document['left_behind'])}": document["left_behind"],
    }
    return [what for what, it_is_so in wrong.items() if it_is_so]


def rows(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The summary as (what, figure)."""
    edge, ends = document["edge_node"], document["ends"]
    second, last = edge["quarters"][1], edge["quarters"][3]
    fates = document["fates"]
    return [
        ("minutes, faults", f"{document['minutes']:g}, {document['num_faults']}"),
        ("rounds", f"{document['rounds']}: {_counts(ends)}"),
        ("rounds without a named end", str(document["rounds_without_end"])),
        ("rings, days sealed", f"{document['rings']}, {document['days_sealed']}"),
        ("median round", f"{document['median_round_s']:.1f} s"),
        ("longest time between two rounds' ends", f"{document['longest_gap_s']:.0f} s"),
        ("receipts heard", f"{document['receipts']:,}"),
        ("fates", _counts(fates)),
        ("updates lost, counted twice", f"{document['num_lost']}, {document['num_doubled']}"),
        ("regional replay", _counts(document["replayed"])),
        ("edge node, RSS, 2nd quarter", f"{second['rss_mib']:.1f} MiB"),
        ("edge node, RSS, last quarter", f"{last['rss_mib']:.1f} MiB ({edge['rss_growth']:+.1%})"),
        ("edge node, largest RSS", f"{max(q['rss_max_mib'] for q in edge['quarters']):.1f} MiB"),
        ("edge node, descriptors, 2nd and last quarter", f"{second['fds']:g}, {last['fds']:g}"),
        ("edge node, share of a core", f"{edge['cpu_share']:.1%}"),
        ("left behind", "; ".join(document["left_behind"]) or "nothing"),
    ]


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{num:,} {name}" for name, num in sorted(values.items()))
