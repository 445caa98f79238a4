"""The demo: a whole region on one machine, from wristbands to the clinician's page.

Three community hospitals with the 22 DS1 patients of MIT-BIH as wristbands learn for two days:
rounds over MQTT, a Horovod ring between the hospitals, a seal, the cloud's decision, an ONNX
release, and an inference API that stays up.  Whatever process dies is started again and said so.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.live import Live

from common.ecg.sources import EcgSource, cache_root, data_root, has_mitdb, open_source
from common.errors import ConfigError, PulseRingError
from common.link import BrokerAddress
from common.notice import NOTICE
from simulators.broker import free_port, require_free
from simulators.broker_process import require_kind
from simulators.demo_summary import release_name, show, summarise
from simulators.demo_view import RoundRow, Scene, notice_panel, render, rows_of
from simulators.fleet import default_roster
from simulators.interrupts import Interrupts
from simulators.local_region import LocalRegion, RegionPlan, edge_name
from simulators.supervisor import one_thread, python_module

POLL_S = 0.25
DAY_TIMEOUT_S = 1800.0
FEDPROX_MU = 0.01
INTERRUPTED = 130
BROKER_KINDS = ("auto", "iotcore", "mosquitto")
console = Console()


@dataclass
class Story:
    """What has happened so far."""

    region: LocalRegion
    scene: Scene = field(default_factory=Scene)
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)
    deciding: dict[int, Future[dict[str, Any]]] = field(default_factory=dict)
    started_at: float = field(default_factory=time.monotonic)

    def tell(self, event: str) -> None:
        """Add a line below the table."""
        seconds = time.monotonic() - self.started_at
        self.scene.events.append(f"{seconds:6.1f} s  {event}")
        if not console.is_terminal:
            console.print(self.scene.events[-1], highlight=False, soft_wrap=True)


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="End after the summary instead of serving the page.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that holds mitdb/; else PULSERING_DATA, else the cache."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not try to download MIT-BIH.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Use synthetic ECG even where MIT-BIH is.")
    ] = False,
    days: Annotated[str, typer.Option(help="Rounds of each day, such as 6,2.")] = "6,2",
    steps: Annotated[
        int, typer.Option(help="Local steps of a wristband in a round.", min=1, max=100_000)
    ] = 40,
    mean_of: Annotated[
        int, typer.Option(help="Models that a day's seal is the mean of.", min=1, max=64)
    ] = 3,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.", min=0)] = 0,
    algorithm: Annotated[
        Literal["fedavg", "fedprox", "fedadam"], typer.Option(help="Of local and server step.")
    ] = "fedavg",
    weighting: Annotated[
        Literal["uniform", "examples"], typer.Option(help="Of the wristbands' updates.")
    ] = "uniform",
    broker: Annotated[
        str, typer.Option(help="auto, iotcore, mosquitto, or the mqtt:// URL of one that runs.")
    ] = "auto",
    port: Annotated[int, typer.Option(help="Port of the API and page.", min=0, max=65535)] = 8080,
    root: Annotated[
        Path, typer.Option(help="Folder for state, logs and the model pool; emptied.")
    ] = Path("var/demo"),
    workers: Annotated[int, typer.Option(help="Processes that train wristbands.", min=1)] = 2,
    summary_file: Annotated[
        Path | None, typer.Option("--summary", help="Write the summary to this file as JSON too.")
    ] = None,
) -> None:
    """Run a whole region on this machine, on real ECG.

    Kill any process it started (`pkill -9 -f 'edge run.*north'`) and watch nothing get lost.
    """
    rounds_per_day = _parse_days(days)
    if "://" in broker:
        BrokerAddress.parse(broker)
    elif broker not in BROKER_KINDS:
        raise ConfigError(f"--broker {broker}: choose {', '.join(BROKER_KINDS)} or an mqtt:// URL")
    else:
        require_kind(broker)
    source = _open_source(data, offline=offline, synthetic=synthetic)
    is_real = source.kind != "synthetic"
    with _own_folder(root):
        plan = RegionPlan(
            root=root.absolute(),
            roster=default_roster(source.train_names),
            data=data_root(data, os.environ) if is_real else root.absolute() / "no-ecg",
            data_source=source.kind,
            seed=seed,
            workers=workers,
            learning=_learning(algorithm, weighting)
            | {"lr_rounds": sum(rounds_per_day), "num_steps": steps},
            rounds={"rounds_per_day": rounds_per_day, "num_days": len(rounds_per_day), "quorum": 2},
            seal={"wait_for_release_s": 300.0, "mean_of": mean_of},
            broker_kind="auto" if "://" in broker else broker,
            broker_url=broker if "://" in broker else None,
            api_port=_free_or(port),
        )
        _greet(source, plan)
        summary = _run(LocalRegion(plan), source, leave=exit_)
        if summary_file:
            summary_file.write_text(json.dumps(summary, indent=2) + "\n")


def _learning(algorithm: str, weighting: str) -> dict[str, Any]:
    mu = {"mu": FEDPROX_MU} if algorithm == "fedprox" else {}
    return {"algorithm": algorithm, "weighting": weighting, **mu}


def _run(region: LocalRegion, source: EcgSource, *, leave: bool) -> dict[str, Any]:
    story, interrupts = Story(region), Interrupts()
    try:
        region.start()
        _watch(story, interrupts)
        summary = summarise(
            region.rounds(),
            story.releases,
            region.stop_fleet(),
            source.kind,
            time.monotonic() - story.started_at,
        )
        show(console, summary)
        if summary["release"] is None:
            raise PulseRingError(f"no model was released; {region.plan.root / 'logs'} say why")
        if not leave:
            _serve_until_interrupted(story)
    except KeyboardInterrupt:
        console.print("\ninterrupted; every process is being ended")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        region.stop()
    return summary


def _watch(story: Story, interrupts: Interrupts) -> None:
    """Follow the region until its last day is decided."""
    with (
        ThreadPoolExecutor(1, thread_name_prefix="daily") as daily,
        Live(console=console, refresh_per_second=8, transient=True) as live,
    ):
        last_progress, last_round = time.monotonic(), None
        while True:
            interrupts.look()
            _observe(story)
            _decide(story, daily)
            if console.is_terminal:
                live.update(render(story.scene))
            if story.scene.phase == "finished" and story.scene.day in story.releases:
                return
            progress = (story.scene.phase, story.scene.round_id, len(story.releases))
            if progress != last_round:
                last_progress, last_round = time.monotonic(), progress
            if time.monotonic() - last_progress > DAY_TIMEOUT_S:
                raise PulseRingError(
                    f"nothing moved for {DAY_TIMEOUT_S:.0f} s; see {story.region.plan.root}/logs"
                )
            time.sleep(POLL_S)


def _observe(story: Story) -> None:
    region, scene = story.region, story.scene
    for death in region.supervisor.revive():
        story.tell(f"{death.name} ended ({death.how}) and was started again")
    status = region.status()
    if not status:
        return
    scene.phase, scene.day, scene.round_id = status["phase"], status["day"], status["round_id"]
    scene.hospitals = {name: h for name, h in status["hospitals"].items() if h}
    rows = rows_of(region.rounds())
    for row in rows[len(scene.rows) :]:
        _tell_round(story, row)
    scene.rows = rows or scene.rows


def _tell_round(story: Story, row: RoundRow) -> None:
    """Tell of a round that failed, and without a terminal of every round."""
    if row.end != "committed":
        story.tell(f"round {row.round_id} {row.end}: {row.reason}")
    elif not console.is_terminal:
        story.tell(
            f"day {row.day} round {row.round_id} ({row.purpose}) committed: "
            f"{row.num_stored}/{row.num_invited} updates, {row.num_rejected} rejected, "
            f"ring generation {row.generation}, {row.seconds:.1f} s"
        )


def _decide(story: Story, daily: ThreadPoolExecutor) -> None:
    """Run the cloud's daily job for a day that was sealed."""
    scene = story.scene
    if scene.phase in ("waiting_for_release", "finished") and scene.day not in story.deciding:
        story.deciding[scene.day] = daily.submit(_daily_job, story.region, scene.day)
    for day, future in story.deciding.items():
        if future.done() and day not in story.releases:
            story.releases[day] = decision = future.result()
            story.tell(
                f"day {day}: {decision['decision']} {release_name(decision)}: {decision['rule']}"
            )


def _daily_job(region: LocalRegion, day: int) -> dict[str, Any]:
    command = python_module(
        "cloud", "daily", "--config", str(region.config_path("cloud")), "--day", str(day), "--json"
    )
    log = (region.plan.root / "logs" / "daily.log").open("ab")
    with log:
        done = subprocess.run(
            command, env=one_thread(), stdout=subprocess.PIPE, stderr=log, check=False
        )
    try:
        decision: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError as fault:
        raise PulseRingError(
            f"the daily job ended with code {done.returncode}; see {log.name}"
        ) from fault
    return decision


def _serve_until_interrupted(story: Story) -> None:
    region = story.region
    region.start_api()
    console.print(f"\n[bold]{region.api_url}[/bold] serves the page and the API. Ctrl-C ends.")
    try:
        while True:
            for death in region.supervisor.revive():
                console.print(f"{death.name} ended ({death.how}) and was started again")
            time.sleep(1)
    except KeyboardInterrupt:
        console.print("\nstopping")


def _greet(source: EcgSource, plan: RegionPlan) -> None:
    console.print(notice_panel(NOTICE, "PulseRing", "cyan"))
    if source.kind == "synthetic":
        console.print(notice_panel(source.notice, "Synthetic", "red"))
    else:
        console.print(source.notice.replace(str(Path.home()), "~"), highlight=False)
    wristbands = ", ".join(f"{hospital} {len(w)}" for hospital, w in plan.roster.items())
    processes = ", ".join(edge_name(hospital) for hospital in plan.roster)
    console.print(f"wristbands by hospital: {wristbands}", highlight=False)
    logs = os.path.relpath(plan.root / "logs")
    console.print(f"processes: broker, region, {processes}, fleet", highlight=False)
    console.print(f"logs in {logs}; kill any process and watch nothing get lost\n", highlight=False)


def _open_source(data: Path | None, *, offline: bool, synthetic: bool) -> EcgSource:
    from common.ecg.sources import synthetic_source

    if synthetic:
        return synthetic_source(reason="--synthetic was given. ")
    root = data_root(data, os.environ)
    in_cache = root == cache_root(os.environ) / "data"
    if in_cache and not offline and not has_mitdb(root):
        subprocess.run(python_module("common.ecg.download", "--data", str(root)), check=False)
    return open_source(root)


def _parse_days(days: str) -> list[int]:
    try:
        parsed = [int(part) for part in days.split(",")]
    except ValueError as fault:
        raise ConfigError(f"--days {days!r}: write rounds of each day, such as 6,2") from fault
    if min(parsed) < 1 or sum(parsed) > 10_000:
        raise ConfigError(f"--days {days!r}: each day needs at least 1 round")
    return parsed


def _free_or(port: int) -> int:
    """`port` if it can be used, else a free one; 0 asks for a free one."""
    if port == 0:
        return free_port()
    try:
        require_free("127.0.0.1", port)
    except ConfigError:
        other = free_port()
        console.print(f"port {port} is in use; the page will be on {other}", style="yellow")
        return other
    return port


@contextmanager
def _own_folder(root: Path) -> Iterator[None]:
    """Empty `root` and hold it, so that two demos never share one.

    Raises
    ------
    ConfigError
        When another demo holds it, or it is no folder of a demo.
    """
    root.mkdir(parents=True, exist_ok=True)
    marker = root / "demo.lock"
    if any(root.iterdir()) and not marker.exists():
        raise ConfigError(f"--root {root} holds files that no demo made; choose another folder")
    with marker.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            raise ConfigError(
                f"another demo runs in {root}; end it or choose another --root"
            ) from fault
        for entry in root.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != marker:
                entry.unlink()
        yield
