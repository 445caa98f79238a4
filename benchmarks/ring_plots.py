"""Chart of how star and ring grow with the number of hospitals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.ticker import NullLocator, ScalarFormatter

from benchmarks.plot_style import SERIES, SOFT, require, sheet


def scaling(document: Mapping[str, Any], path: Path) -> None:
    """Draw seconds against sites for star and ring, beside a line of O(N) and the ring's limit.

    Parameters
    ----------
    document : mapping
        As the benchmark's results hold it under ``scaling``.
    path : Path
        ``.svg`` or ``.png``.

    Raises
    ------
    ContractError
        If there are no points.
    """
    points = document["points"]
    require(points, "numbers of sites")
    sites = [point["num_sites"] for point in points]
    star = [point["parameter_server_s"] for point in points]
    title = f"{document['payload']} between N hospitals at {document['mbit']} Mbit/s"
    with sheet(path, title, (6.4, 4.6)) as figure:
        axes = figure.subplots()
        linear = [star[0] * (n - 1) / (sites[0] - 1) for n in sites]
        axes.plot(sites, linear, color=SOFT, linewidth=1, linestyle=(0, (2, 2)), label="O(N)")
        for (colour, marker), key, name in zip(
            SERIES,
            ("parameter_server_s", "ours_s"),
            ("parameter server", "ring (ours)"),
            strict=False,
        ):
            axes.plot(sites, [p[key] for p in points], color=colour, marker=marker, label=name)
        limit = [point["limit_s"] for point in points]
        axes.plot(sites, limit, color=SOFT, linewidth=1, label="limit of a ring, 2(N−1)/N·S/B")
        axes.set(xscale="log", yscale="log", xlabel="hospitals N", ylabel="seconds to add up")
        axes.set_title(title)
        axes.set_xticks(sites)
        axes.xaxis.set_minor_locator(NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ScalarFormatter())
        axes.legend()
