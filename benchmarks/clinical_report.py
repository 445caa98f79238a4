"""`docs/clinical/results.md`: every figure of the clinical benchmark, in words and tables.

``python -m benchmarks.clinical_report`` writes it again from ``benchmarks/results/clinical.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results_file
from benchmarks.clinical_arms import NUM_STEPS

PATH = results_file.REPOSITORY / "docs" / "clinical" / "results.md"
LOCAL = "local_only_"

ROWS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1 (N, S, V)",
    "s_f1": "S: F1",
    "s_f1_without_232": "S: F1 without record 232",
    "s_sensitivity": "S: Se",
    "s_positive_predictivity": "S: +P",
    "v_f1": "V: F1",
    "v_sensitivity": "V: Se",
    "v_positive_predictivity": "V: +P",
}
FIVE_CLASSES = {
    "accuracy_five_classes": "accuracy",
    "macro_f1_counting_f_and_q": "macro-F1 (N, S, V), F and Q counted",
    "macro_f1_four_classes": "macro-F1 (N, S, V, F)",
}
SUBGROUP_ROWS = ("accuracy", "macro_f1", "s_f1", "s_f1_without_232", "v_f1")
FLOORS = {"accuracy": 0.972, "macro_f1": 0.89, "s_f1": 0.75, "s_f1_without_232": 0.35, "v_f1": 0.94}
GOALS = {"accuracy": 0.982, "macro_f1": 0.922, "s_f1": 0.85, "s_f1_without_232": 0.55, "v_f1": 0.96}

Document = Mapping[str, Any]
Columns = Sequence[tuple[str, str]]
"""Key of the document and heading, by column."""


def report(document: Document) -> str:
    """Return the report in Markdown."""
    return "\n\n".join(part.strip() for part in _parts(document)) + "\n"


def write(document: Document, path: Path = PATH) -> Path:
    """Write the report and return its path."""
    path.write_text(report(document), encoding="utf-8")
    return path


def _parts(document: Document) -> list[str]:
    return [
        _head(document),
        _against_centralised(document),
        _without_simulator(document),
        _other_ways(document),
        _conditions(document),
        _end_to_end(document["end_to_end"]),
        _calibration(document["calibration"]),
        _personalised(document),
        _subgroups(document),
    ]


def _head(document: Document) -> str:
    return f"""# Results

Written by `make bench-clinical` from [`benchmarks/results/clinical.json`](../../benchmarks/results/clinical.json) (commit {document["commit"][:7]}); not to be edited. Protocol: [protocol.md](protocol.md); terms: [definitions.md](definitions.md). ± is the standard deviation over seeds ({_num_seeds(document, "federated")} for federated and centralised, fewer where said), brackets the 95 % interval over resampled patients. N means "not ectopic". Figures are among beats whose reference is N, S or V, at reference R peaks, unless said."""


def _against_centralised(document: Document) -> str:
    rows = [["DS2", "federated (95 % interval)", "floor", "reached", "goal"]]
    rows += [
        [
            text,
            _figure(document, "federated", name, with_interval=True),
            f"{FLOORS[name]:g}" if name in FLOORS else "",
            _reached(document["federated"][name]["mean"], FLOORS.get(name)),
            f"{GOALS[name]:g}" if name in GOALS else "",
        ]
        for name, text in ROWS.items()
    ]
    both = [("federated", "federated"), ("centralised", "centralised")]
    difference = ("federated_minus_centralised", "difference")
    hospitals = ", ".join(f"{name} {num}" for name, num in document["hospitals"].items())
    return f"""## Federated against centralised
22 DS1 patients as 22 wristbands at 4 unequal hospitals ({hospitals}), {document["rounds"]} rounds of {NUM_STEPS} local steps of 64 beats, {document["params"]:,} parameters. Floors and goals are those we set ourselves.

{_markdown(rows)}

{_table(document, [*both, difference])}

{_table(document, both, FIVE_CLASSES, "five classes")}

![Confusion of the first seed](confusion.svg)

![F1 and number of beats by patient](per-patient.svg)

Ten seconds each of what the first seed says most of: V found, S found, S missed, N called S, V missed, N called V; chosen by a rule (`benchmarks/clinical_strips.py`).

![Example strips](strips.png)

How much of this is rounds, local steps and participation, on held-out DS1 patients (`make bench-learning`):

![Learning curves](learning.svg)"""


def _without_simulator(document: Document) -> str:
    columns = [
        ("federated_no_simulator", "federated"),
        ("centralised_no_simulator", "centralised"),
        ("federated_minus_centralised_no_simulator", "difference"),
    ]
    return f"""## Without the shared simulator
{_num_seeds(document, "federated_no_simulator")} seeds; neither simulated beats in the rounds nor the rhythm branch that was taught them.

{_table(document, columns)}"""


def _other_ways(document: Document) -> str:
    columns = [
        ("federated_own_labels", "own labels"),
        ("federated_four_fifths", "four fifths of the beats"),
        *((name, f"only {name.removeprefix(LOCAL)}") for name in document if LOCAL in name),
    ]
    seeds = {f"{heading}: {_num_seeds(document, name)}" for name, heading in columns}
    return f"""## Other ways to learn
{_table(document, columns)}

"Own labels": the wristband's own rule on its own detected R peaks, no annotator. "Four fifths": each patient's last fifth kept out, as the product does. "Only": a hospital that learns alone, with the shared simulator and as many steps a wristband. Seeds: {"; ".join(sorted(seeds))}."""


def _conditions(document: Document) -> str:
    columns = [
        ("federated_int8", "int8 ONNX"),
        ("federated_int8_minus_federated", "int8 − fp32"),
        ("federated_noise_12db", "12 dB noise"),
        ("federated_noise_12db_answered", "12 dB, answered"),
        ("federated_bxb_map", "`bxb` map"),
    ]
    facts = document["facts"]
    return f"""## int8, noise, `bxb` map
{_num_seeds(document, "federated_int8")} seeds.

{_table(document, columns)}

The int8 file has {facts["int8_bytes"]:,} bytes. Noise is `bw` and `ma` in equal power; electrode motion (`em`), the worst on a wrist, is not tested. In noise {facts["noisy_coverage"]:.1%} of beats are answered: readable, and not inconclusive."""


def _end_to_end(figures: Document) -> str:
    def pair(peaks: str, kind: str) -> str:
        both = (figures[peaks][f"{kind}_{f}"] for f in ("sensitivity", "positive_predictivity"))
        return " / ".join(_mean(figure) for figure in both)

    rows = [["", "detected R peaks", "reference R peaks", "difference"]]
    rows.append(["QRS Se / +P", pair("detected", "qrs"), "–", ""])
    rows += [
        [
            text,
            _spread(figures["detected"][name]),
            _spread(figures["reference"][name]),
            _spread(figures["detected_minus_reference"][name], sign="+"),
        ]
        for name, text in (("v_f1", "V F1"), ("s_f1", "S F1"))
    ]
    rows += [
        [f"{kind.upper()} Se / +P", pair("detected", kind), pair("reference", kind), ""]
        for kind in ("veb", "sveb")
    ]
    return f"""## End to end
From 5:00 on, own R peaks, pairs at most 150 ms apart, EC57 counting rules.

{_markdown(rows)}"""


def _calibration(figures: Document) -> str:
    return f"""## Calibration
First seed: ECE {figures["ece_15_bins"]:.3f} (15 bins), Brier {figures["brier"]:.3f}. With "inconclusive" above an expected error of {figures["max_expected_error"]} (chosen on DS1), {figures["coverage"]:.1%} of beats are answered, {figures["error_of_answered"]:.1%} of these wrongly; of all beats {figures["error_of_all"]:.1%}.

![Reliability](reliability.svg)

![Error against coverage](coverage.svg)"""


def _personalised(document: Document) -> str:
    columns = [
        ("personalised_0_minutes", "regional"),
        *((f"personalised_{n}_minutes", f"{n} min") for n in (1, 3, 5)),
        ("personalised_label_free", "label-free"),
    ]
    return f"""## Personalised
Each DS2 patient from a fresh copy of the regional model, fine-tuned on their first labelled minutes, scored on minutes 5 to 30; "label-free" teaches itself where it is sure. {_num_seeds(document, "personalised_0_minutes")} seeds. Floors for 5 minutes: accuracy .975, S F1 .80, V F1 .96.

{_table(document, columns, head="minutes 5 to 30")}

![Gain and harm by patient](personalised.svg)"""


def _subgroups(document: Document) -> str:
    rows = [["part", "records", *(ROWS[name].replace(": ", " ") for name in SUBGROUP_ROWS)]]
    rows += [
        [
            group.replace("_", " "),
            str(figures["num_records"]),
            *(_mean(figures[name]) for name in SUBGROUP_ROWS),
        ]
        for group, figures in document["subgroups"].items()
    ]
    return f"""## By sex and age, and without single records
Federated, {_num_seeds(document, "federated")} seeds.

{_markdown(rows)}

Record 232, with three quarters of the S beats, is of a woman of 76: the S F1 of these parts is hers."""


def _table(
    document: Document, columns: Columns, rows: Mapping[str, str] = ROWS, head: str = "DS2"
) -> str:
    known = [(name, heading) for name, heading in columns if name in document]
    lines = [[head, *(heading for _, heading in known)]]
    lines += [
        [text, *(_figure(document, c, name) for c, _ in known)] for name, text in rows.items()
    ]
    return _markdown(lines)


def _figure(document: Document, column: str, name: str, *, with_interval: bool = False) -> str:
    figure = document[column][name]
    text = _spread(figure, sign="+" if "_minus_" in column else "")
    if with_interval and figure["ci95"][0] is not None:
        low, high = figure["ci95"]
        text += f" ({low:.2f} to {high:.2f})"
    return text


def _spread(figure: Document, sign: str = "") -> str:
    if figure["mean"] is None:
        return "n/a"
    sd = "" if figure["sd"] is None else f" ± {figure['sd']:.3f}"
    return f"{figure['mean']:{sign}.3f}{sd}"


def _mean(figure: Document) -> str:
    return "n/a" if figure["mean"] is None else f"{figure['mean']:.3f}"


def _reached(mean: float | None, floor: float | None) -> str:
    if mean is None or floor is None:
        return ""
    return "yes" if mean >= floor else "no"


def _num_seeds(document: Document, name: str) -> int:
    return len(document.get(name, {}).get("macro_f1", {}).get("values", ()))


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    write(json.loads((results_file.RESULTS / "clinical.json").read_text(encoding="utf-8")))
