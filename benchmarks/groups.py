"""Ten hospitals, three of them behind a tenth of the bandwidth: speed groups against one ring of all.

``make bench-groups`` (root) times whole rounds of the product's own processes in network namespaces
with shaped links: all together (the naive setting), with speed groups, and the quick ones alone.
Then it trains the clinical recipe with slow rounds as long as measured, scores it on DS2, and
writes ``benchmarks/results/groups.json``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import fmean, median, stdev
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.clinical_arms import NUM_ROUNDS
from benchmarks.groups_learning import SETTINGS, Lesson, Setting, learn, scored
from benchmarks.groups_region import Order, trained
from benchmarks.netns import lan, require_root
from common.ecg.sources import EcgSource, data_root, open_source
from common.errors import ConfigError, PulseRingError

NAME = "groups"
NUM_SITES, SLOW_SITES = 10, (1, 4, 7)
QUICK_KBIT, SLOW_KBIT = 2000, 200
BURST_BYTES = 16 << 10
SLOW_FACTOR, MIN_GAIN_S = 3.0, 1.0
SETTLED = 3  # rounds until the ring is warm and each hospital was measured twice
TIMED_ROUNDS: Mapping[Setting, int] = {"together": 8, "groups": 40, "without_slow": 20}
TIMEOUT_S = 540.0
KEPT = results_file.REPOSITORY / "var" / "bench" / NAME
AGE = re.compile(r"(\d+) commits after its base")
METHOD = {
    "round_s": "from a round's opening to its commit, as the coordinator records it; median of the "
    f"rounds after the first {SETTLED} and before the day's last, which waits for all; then median "
    "over repeats. Wristbands answer at once, so training is not in it",
    "together": "one ring of all hospitals: the naive setting",
    "without_slow": "the quick hospitals alone: what no grouping can beat",
    "learning": "the clinical recipe with DS1 dealt to the hospitals and the slow ones drawn by seed; "
    "slow rounds last as many commits as measured; scored on DS2 at reference peaks, N S V",
}
console = Console()
progress = Console(stderr=True)


def groups(
    repeats: Annotated[int, typer.Option(help="Runs of each setting, in turn.", min=1)] = 3,
    seeds: Annotated[int, typer.Option(help="Seeds 0, 1, … of the learning.", min=1)] = 3,
    workers: Annotated[int, typer.Option(help="Processes that train.", min=1, max=64)] = 2,
    timing_only: Annotated[
        bool, typer.Option("--timing-only", help="No learning; writes no file.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Each setting once, few rounds, no learning; no file.")
    ] = False,
    as_json: command.JsonOption = False,
) -> None:
    """Time rounds with and without speed groups, and score what they learn.

    Example: `sudo make bench-groups`, about three quarters of an hour on two cores
    """
    require_root()
    source = open_source(data_root(None, os.environ))
    if source.kind != "mitdb" and not (quick or timing_only):
        raise ConfigError("the groups benchmark needs MIT-BIH: run `make data`")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    load = os.getloadavg()[0]
    document: dict[str, Any] = {"timing": _timing(1 if quick else repeats, quick=quick)}
    if not (quick or timing_only):
        document["learning"] = _learning(document["timing"]["slow_commits"], seeds, workers, source)
    document |= {"links": _links(), "method": METHOD, "load_before": load} | provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(table(document))
    if quick or timing_only:
        progress.print("not the whole benchmark: no file was written")
        return
    progress.print(f"written: {results_file.shown(results_file.write(NAME, document))}")


def table(document: Mapping[str, Any]) -> Table:
    """Each setting beside the naive one."""
    timing, learning = document["timing"], document.get("learning", {})
    shown = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("setting", "round", "to together", "accuracy", "macro-F1"):
        shown.add_column(heading, justify="left" if heading == "setting" else "right")
    naive = timing["settings"]["together"]["round_s"]
    for name, figures in timing["settings"].items():
        scores = learning.get("settings", {}).get(name)
        told = (
            [f"{scores[k]['mean']:.4f} ± {scores[k]['sd'] or 0:.4f}" for k in SCORES]
            if scores
            else ["–"] * 2
        )
        shown.add_row(
            name, f"{figures['round_s']:.2f} s", f"{naive / figures['round_s']:.1f} ×", *told
        )
    shown.caption = f"a slow round lasts {timing['slow_commits']} rounds of the others"
    return shown


SCORES = ("accuracy", "macro_f1")


def _timing(repeats: int, *, quick: bool) -> dict[str, Any]:
    runs: dict[Setting, list[list[dict[str, Any]]]] = {setting: [] for setting in SETTINGS}
    for repeat in range(repeats):
        for setting in SETTINGS:
            num_rounds = 7 if quick else TIMED_ROUNDS[setting]
            progress.print(f"timing {repeat + 1}/{repeats}: {setting}, {num_rounds} rounds")
            runs[setting].append(_kept_or_run(setting, repeat, num_rounds))
    ages = [age for report in runs["groups"] for age in _ages(report)]
    settings: dict[str, Any] = {}
    for setting, reports in runs.items():
        each = [_round_s(report) for report in reports]
        settings[setting] = {"round_s": median(each), "repeats_s": each}
    together, ours, alone = (settings[s]["round_s"] for s in SETTINGS)
    return {
        "settings": settings,
        "times_together": together / ours,
        "to_without_slow": ours / alone,
        "slow_commits": round(median(ages)) if ages else 1,
        "ages": ages,
        "last_round_s": [trained(report)[-1]["seconds"] for report in runs["groups"]],
        "rounds_until_grouped": [_until_grouped(report) for report in runs["groups"]],
    }


def _kept_or_run(setting: Setting, repeat: int, num_rounds: int) -> list[dict[str, Any]]:
    """A run of this very commit is not done again."""
    state = results_file.commit()
    name = f"timing-{setting}-{repeat}-{num_rounds}-{state['commit']}.json"
    if (KEPT / name).exists():
        kept: list[dict[str, Any]] = json.loads((KEPT / name).read_text())
        return kept
    report = _rounds(setting, num_rounds)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / name).write_text(json.dumps(report))
    return report


def _rounds(setting: Setting, num_rounds: int) -> list[dict[str, Any]]:
    """Run a region over the links and return what its coordinator reports."""
    with lan(NUM_SITES) as made, tempfile.TemporaryDirectory(prefix="pulsering-groups-") as folder:
        for number in range(NUM_SITES):
            kbit = SLOW_KBIT if number in SLOW_SITES else QUICK_KBIT
            made.shape_site(number, kbit, BURST_BYTES)
        sites = [
            site.namespace
            for number, site in enumerate(made.sites)
            if setting != "without_slow" or number not in SLOW_SITES
        ]
        order = Order(
            folder=folder,
            hub=made.hub.address,
            sites=tuple(sites),
            num_rounds=num_rounds,
            with_groups=setting == "groups",
            slow_factor=SLOW_FACTOR,
            min_gain_s=MIN_GAIN_S,
            timeout_s=TIMEOUT_S,
        )
        program = made.hub.command([sys.executable, "-m", "benchmarks.groups_region"])
        done = subprocess.run(
            program, input=order.encoded(), capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise PulseRingError(f"{setting}: {done.stderr.strip()[-800:]}")
    report: list[dict[str, Any]] = json.loads(done.stdout)
    return report


def _round_s(report: Sequence[Mapping[str, Any]]) -> float:
    """Median of the settled rounds; the day's last waits for all and is told apart."""
    return float(median(one["seconds"] for one in trained(report)[SETTLED:-1]))


def _ages(report: Sequence[Mapping[str, Any]]) -> list[int]:
    """How old the slow rounds' sums were when they counted, but for the day's last."""
    last = trained(report)[-1]["round_id"]
    reasons = [one["reason"] for one in report if one["group"] and one["end"] == "committed"]
    return [
        int(found[1])
        for reason in reasons
        if (found := AGE.search(reason)) and f"in round {last}," not in reason
    ]


def _until_grouped(report: Sequence[Mapping[str, Any]]) -> int:
    """Rounds that all hospitals were in before the slow ones had their own."""
    together = [one for one in trained(report) if len(one["aggregates"]) == NUM_SITES]
    return len(together)


def _learning(slow_commits: int, seeds: int, workers: int, source: EcgSource) -> dict[str, Any]:
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers
    folder = KEPT
    lessons = [
        Lesson(setting, seed, NUM_SITES, len(SLOW_SITES), NUM_ROUNDS, slow_commits)
        for seed in range(seeds)
        for setting in SETTINGS
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(learn, lesson, source, folder) for lesson in lessons]
        found = []
        for number, future in enumerate(futures, start=1):
            found.append(scored(future.result()))
            lesson = lessons[number - 1]
            progress.print(f"learning {number}/{len(lessons)}: {lesson.setting}, {lesson.seed}")
    by_setting: dict[str, list[dict[str, float]]] = {setting: [] for setting in SETTINGS}
    for lesson, figures in zip(lessons, found, strict=True):
        by_setting[lesson.setting].append(figures)
    settings = {name: _spread(each) for name, each in by_setting.items()}
    lost = {
        name: {k: settings["together"][k]["mean"] - told[k]["mean"] for k in SCORES}
        for name, told in settings.items()
        if name != "together"
    }
    slow = {str(lesson.seed): lesson.slow for lesson in lessons}
    return {"settings": settings, "lost_to_together": lost, "num_rounds": NUM_ROUNDS, "slow": slow}


def _spread(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    told = {}
    for name in SCORES:
        values = [figures[name] for figures in runs]
        sd = stdev(values) if len(values) > 1 else None
        told[name] = {"mean": fmean(values), "sd": sd, "values": values}
    return told


def _links() -> dict[str, int]:
    slow = len(SLOW_SITES)
    sites = {"sites": NUM_SITES, "slow_sites": slow}
    return sites | {"quick_kbit_s": QUICK_KBIT, "slow_kbit_s": SLOW_KBIT}


if __name__ == "__main__":
    command.run(groups, "stopped; finished learning is kept and will not be done again")
