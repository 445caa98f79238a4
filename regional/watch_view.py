"""What ``python -m regional watch`` shows: pure functions of a `Sight` and the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from regional.sight import Sight

NUM_ROUNDS = 10
NUM_RINGS = 6
WIDE = 110  # columns of a terminal from which on there is room for more
PARTS = ("read", "pack", "allreduce", "unpack", "step", "write")
TITLES = {"read": "ms: read", "allreduce": "sum"}
PHASES = {
    "open": "wristbands learn",
    "ring": "hospitals add up in the ring",
    "closed": "between two rounds",
    "sealing": "the day's model is being sealed",
    "waiting_for_release": "the cloud's decision is awaited",
    "finished": "all days are done",
}
END_STYLES = {"committed": "green", "skipped": "yellow", "aborted": "red"}
Status = Mapping[str, Any]


def render(sight: Sight, now: float, width: int) -> Group:
    """The whole screen, for a terminal of `width` columns."""
    parts: list[Any] = [silence(sight, now)] if sight.fault else []
    if sight.status:
        parts += [headline(sight.status, now), Text()]
        parts += [hospitals(sight.status, width), Text()]
        parts += [*trouble(sight.status), rounds(sight.rounds, width), Text()]
        parts += [rings(sight.rounds, sight.status["dead_rings"], width)]
    return Group(*parts)


def silence(sight: Sight, now: float) -> Text:
    """That the coordinator does not answer, and how old is what is shown."""
    text = f"{sight.url} does not answer: {clean(sight.fault)}. Trying again."
    if sight.seen_at:
        clock = datetime.fromtimestamp(sight.seen_at, UTC).strftime("%H:%M:%SZ")
        text += f" Below is what it said {now - sight.seen_at:.0f} s ago, at {clock}."
    else:
        text += " Does `python -m regional run` run, with this health_listen?"
    return Text(text + "\n", style="bold red")


def headline(status: Status, now: float) -> Text:
    """Phase, day, round, time left, model."""
    text = Text()
    text.append(f"{clean(status['region'])}", style="bold")
    text.append(f"  day {status['day']}, round {status['round_id']}")
    text.append(f" ({'learn' if status.get('purpose') == 'train' else 'score'})")
    text.append(f": {PHASES.get(status['phase'], clean(status['phase']))}", style="bold cyan")
    if status.get("closes_at") is not None:
        text.append(f", {_left(status['closes_at'], now)}")
    text.append(f"\nmodel {clean(status['model_digest'])[:12]}")
    text.append(f"   in service {clean(status['in_service'] or 'none')}")
    text.append(f"   ring {status['generation']}")
    text.append(f"   {status['num_trained_today']} committed today")
    if status.get("num_failed_in_a_row"):
        text.append(f"   {status['num_failed_in_a_row']} failed in a row", style="red")
    if status.get("seal_asked"):
        text.append("   an operator has asked for the seal", style="yellow")
    for group in status.get("groups", ()):
        text.append(f"\nslow group {_group(group, now)}", style="magenta")
    return text


def hospitals(status: Status, width: int) -> Table:
    """One line for each hospital; the parts of its last ring in milliseconds."""
    table = _table()
    table.add_column("hospital", no_wrap=True, max_width=24 if width >= WIDE else 12)
    for name in ("state", "rank"):
        table.add_column(name, no_wrap=True)
    table.add_column("ring", justify="right")
    table.add_column("stored", justify="right", no_wrap=True)
    if width >= WIDE:
        for name in ("refused", "evaluated", "heard", "process"):
            table.add_column(name, justify="right", no_wrap=True)
    for part in PARTS:
        table.add_column(TITLES.get(part, part), justify="right", no_wrap=True)
    for name, said in status["hospitals"].items():
        excluded = name in status.get("excluded", {})
        table.add_row(clean(name), *_cells(said, width >= WIDE, excluded=excluded))
    return table


def trouble(status: Status) -> Iterable[Text]:
    """What each hospital says is wrong with it, why its rank failed, why it is in no ring."""
    lines = []
    for name, said in status["hospitals"].items():
        excluded = status.get("excluded", {}).get(name)
        if excluded:
            until = f"in no ring up to round {excluded['until_round']}"
            lines.append(_trouble(name, f"{until}: {excluded['reason']}", "red"))
        if said and said["error"]:
            lines.append(_trouble(name, said["error"], "red"))
        if said and said["failure"]:
            lines.append(_trouble(name, _failed(said["failure"]), "yellow"))
    return [*lines, Text()] if lines else []


def rounds(ended: Sequence[Status], width: int) -> Table:
    """The last rounds, newest first, with how and why they ended."""
    table = _table()
    for name in ("day", "round"):
        table.add_column(name, justify="right")
    for name in ("for", "end"):
        table.add_column(name, no_wrap=True)
    for name in ("ring", "stored", "seconds", "in ring"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reason", no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    for each in reversed(ended[-NUM_ROUNDS:]):
        table.add_row(*_round(each))
    if not ended:
        table.add_row(*[""] * 8, "no round has ended yet")
    return table


def rings(ended: Sequence[Status], dead: Sequence[Status], width: int) -> Table:
    """The last rings, newest first: their rounds, members, and why they died."""
    table = _table()
    table.add_column("ring", justify="right")
    table.add_column("rounds", no_wrap=True)
    table.add_column("members", no_wrap=True, overflow="ellipsis", max_width=width // 2)
    table.add_column("end", no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    reasons = {each["generation"]: each["reason"] for each in dead}
    used: dict[int, list[Status]] = {generation: [] for generation in reasons}
    for each in ended:
        if each["generation"] and each["end"] == "committed":
            used.setdefault(each["generation"], []).append(each)
    for generation in sorted(used, reverse=True)[:NUM_RINGS]:
        own = used[generation]
        members = ", ".join(sorted(own[-1]["aggregates"])) if own else "–"
        reason = reasons.get(generation)
        end = Text(clean(reason), "yellow") if reason else Text("alive", "green")
        if reason is None and generation != max(used):
            end = Text("–")
        table.add_row(str(generation), _span(own), clean(members), end)
    return table


def clean(text: object) -> str:
    """`text` without what a terminal would obey: hospitals write some of it."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def _cells(said: Status | None, wide: bool, *, excluded: bool) -> list[str | Text]:
    if said is None:
        return [Text("never heard", "red")]
    state = _state(said, excluded=excluded)
    rank = Text(said["rank"], "" if said["rank"] in ("warm", "joined") else "red")
    cells: list[str | Text] = [state, rank, str(said["generation"] or "–")]
    cells.append(f"{said['num_stored']}/{said['num_invited']}")
    if wide:
        cells += [str(said["num_rejected"]), str(said["num_evaluated"])]
        cells += [f"{said['age_s']:.0f} s ago", str(said["rank_pid"] or "–")]
    return [*cells, *(_ms(said["timings"].get(f"{part}_s")) for part in PARTS)]


def _state(said: Status, *, excluded: bool) -> Text:
    if not said["online"]:
        return Text(f"away {said['age_s']:.0f} s", "red")
    if excluded:
        return Text("excluded", "red")
    late = "" if said["complete"] or said["phase"] != "ready" else " late"
    return Text(f"{said['phase']}{late}", "green" if said["phase"] == "ready" else "")


def _round(ended: Status) -> list[str | Text]:
    late = "" if ended["complete"] or ended["end"] != "committed" else " late"
    train = ended["purpose"] == "train"
    return [
        str(ended["day"]),
        str(ended["round_id"]),
        "learn" if train else "score",
        Text(f"{ended['end']}{late}", END_STYLES.get(ended["end"], "")),
        str(ended["generation"] or "–"),
        f"{ended['num_stored']}/{ended['num_invited']}" if train else "–",
        f"{ended['seconds']:.1f}",
        f"{ended['ring_seconds']:.2f}" if ended["end"] == "committed" else "–",
        clean(ended["reason"]),
    ]


def _group(group: Status, now: float) -> str:
    names = clean(", ".join(group["hospitals"]))
    if group["waits"]:
        return f"{names}: the sums of round {group['round_id']} wait to be counted"
    if group["is_open"]:
        return f"{names}: round {group['round_id']}, {_left(group['closes_at'], now)}"
    return f"{names}: between two rounds"


def _trouble(name: str, what: str, style: str) -> Text:
    text = Text(f"{clean(name)}: ", style=f"bold {style}")
    return text.append(clean(what), style=style)


def _failed(failure: Status) -> str:
    where = f"its rank failed in ring {failure['generation']} (round {failure['round_id']})"
    return f"{where}: {failure['reason'] or 'no reason given'}"


def _span(own: Sequence[Status]) -> str:
    if not own:
        return "none"
    first, last = own[0]["round_id"], own[-1]["round_id"]
    return str(first) if first == last else f"{first}–{last}"


def _left(closes_at: float, now: float) -> str:
    left = closes_at - now
    return f"{left:.0f} s left" if left >= 0 else f"{-left:.0f} s past the deadline"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    ms = seconds * 1000
    return f"{ms:.1f}" if ms < 10 else f"{ms:.0f}"


def _table() -> Table:
    return Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
