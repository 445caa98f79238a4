"""The model card: what a release is, what it stands on, and what it must not be used for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloud.inference.provenance import is_synthetic
from cloud.release import Release
from common.mailbox import write_durably
from common.messages import SealedHeader
from common.notice import MEANING_OF_N, NOTICE, SYNTHETIC_NOTICE

PURPOSE = (
    "Made for research: it gives each beat of one ECG lead (MLII) a label, N (not ectopic), "
    "S (supraventricular ectopic), V (ventricular ectopic), F (fusion) or Q (unclassifiable). "
    "It names no rhythm."
)
FIGURES = (
    "Se: share of a class's beats that were found. +P: share of the beats with this label that are "
    "right. F1: their harmonic mean. FPR: share of the other beats that got this label. Accuracy: "
    "share of all beats, of every class. –: undefined."
)
LIMITS = (
    "Simulated wristbands have expert labels; real ones do not.",
    "MIT-BIH's lead MLII is not the lead I of a wrist.",
    "The wristbands' evaluation is on later beats of the wearers that it was trained on.",
    "A beat's inputs are streaming: filter, template and rhythm are taken from at most 361 beats "
    "before it, and from 16 beats and another 3.3 s after it (2.6 s for filter and resampler, 0.6 s "
    "for the beat's own window), never from their labels; detected R peaks settle within 5 s. So "
    "figures hold for a display with that delay, and the training beats next to the held-out ones "
    "have seen some of the ECG of these.",
    "Electrode motion, the worst noise of a wrist, is in none of the data.",
)


def write_card(folder: Path, release: Release, sealed: SealedHeader) -> None:
    """Write ``card.json`` and ``card.md`` beside the model."""
    document = card(release, sealed)
    write_durably(folder / "card.json", json.dumps(document, indent=2).encode())
    write_durably(folder / "card.md", markdown(document).encode())


def card(release: Release, sealed: SealedHeader) -> dict[str, Any]:
    """The card as JSON values."""
    return {
        "notice": NOTICE,
        "meaning_of_classes": MEANING_OF_N if release.task == "beats" else "",
        "release": release.frozen_fields(),
        "provenance": sealed.model_dump(
            mode="json", exclude={"kind", "schema_version", "privacy", "region", "day", "task"}
        ),
        "privacy": sealed.privacy.model_dump(mode="json", exclude={"schema_version"}),
        "wristbands": dict(release.metrics),
        "report": release.report,
        "purpose": PURPOSE if release.task == "beats" else "",
        "limits": list(LIMITS) if release.task == "beats" else [],
    }


def markdown(document: Mapping[str, Any]) -> str:
    """The card as text for people, from what `card` returns."""
    release, provenance = document["release"], document["provenance"]
    made = datetime.fromtimestamp(release["created_at"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    sections = [
        f"# {release['name']}\n\n> {document['notice']}",
        document["meaning_of_classes"],
        _in_short(document),
        "## Model\n\n" + _items(_model(release, made)),
        "## Provenance\n\n" + _items(_provenance(provenance)),
        f"## Privacy\n\n{document['privacy']['statement']}",
        "## Evaluation by wristbands (the decision stands on this)\n\n"
        + _wristbands(document["wristbands"]),
        "## Report\n\n" + _report(document["report"]),
        _limits(document["limits"]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _in_short(document: Mapping[str, Any]) -> str:
    """What a clinician reads first; empty for tasks that are not about beats."""
    if not document["purpose"]:
        return ""
    lines = [
        document["purpose"],
        "Released: every rule below holds, on the wristbands' own held-out beats.",
    ]
    stated = document["provenance"]["data_source"]
    if is_synthetic(stated):
        lines.append(f"Trained and evaluated by wristbands on {stated}. {SYNTHETIC_NOTICE}")
    report = document["report"]
    if report is not None:
        synthetic = report["source"] == "synthetic"
        lines.append(report["notice"] if synthetic else _on_strangers(report))
    return "## In short\n\n" + "\n".join(f"- {line}" for line in lines)


def _on_strangers(report: Mapping[str, Any]) -> str:
    found = [
        f"of {name} ectopic beats it found {_percent(figures['sensitivity'])}, and "
        f"{_percent(figures['positive_predictivity'])} of those that it called so were"
        for name, label in (("ventricular", "V"), ("supraventricular", "S"))
        for figures in [report["figures"]["classes"][label]]
    ]
    without = _number(report["figures"]["classes"]["S"]["f1_without_232"])
    return (
        f"On patients that no wristband wore ({report['notice'].rstrip('.')}): {'; '.join(found)} "
        f"(S F1 without record 232: {without})."
    )


def _limits(limits: Sequence[str]) -> str:
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits) if limits else ""


def _model(release: Mapping[str, Any], made: str) -> list[tuple[str, object]]:
    return [
        ("region, day", f"{release['region']}, {release['day']}"),
        ("task, classes", f"{release['task']}, {' '.join(release['labels'])}"),
        ("made", made),
        ("model digest", f"`{release['model_digest']}`"),
        ("sealed message (SHA-256)", f"`{release['sealed_digest']}`"),
        ("ONNX file (SHA-256)", f"`{release['onnx_sha256']}`, {release['size_bytes']} bytes"),
        ("onnxruntime against torch", f"{release['parity']:.1e} at most"),
        *_int8(release["int8"]),
    ]


def _int8(stated: Mapping[str, Any] | None) -> list[tuple[str, object]]:
    if stated is None:
        return []
    file = (
        f"none: {stated['refusal']}"
        if stated["sha256"] is None
        else f"`{stated['sha256']}`, {stated['size_bytes']} bytes, weights of 8 bits; the service and "
        "every figure here use the ONNX file above"
    )
    pairs = stated["differences"].items()
    return [("int8 file (SHA-256)", file), *(_difference(*pair) for pair in pairs)]


def _difference(inputs: str, stated: Mapping[str, Any]) -> tuple[str, object]:
    bound = stated["score_bound"]
    return (
        f"int8 file against ONNX file, {stated['num_examples']} {inputs.replace('_', ' ')}",
        f"scores differ by {stated['score']:.4f} at most (bound: "
        f"{'none' if bound is None else f'{bound:g}'}), {100 * stated['changed']:.2f} % of "
        f"decisions change (bound: {100 * stated['changed_bound']:g} %)",
    )


def _provenance(sealed: Mapping[str, Any]) -> list[tuple[str, object]]:
    hospitals = ", ".join(f"{name} ({num})" for name, num in sorted(sealed["hospitals"].items()))
    rule = sealed["server"]["algorithm"]
    return [
        ("data", sealed["data_source"]),
        ("rounds", _ranges(sealed["rounds"])),
        ("mean of", f"{len(sealed['mean_of'])} committed model(s)"),
        ("hospitals (updates counted)", hospitals or "none"),
        ("updates counted", sealed["num_updates"]),
        ("wristbands that evaluated", sealed["num_evaluated_devices"]),
        ("algorithm", f"{rule}, weighting {sealed['weighting']}"),
        ("clip norm, bits", f"{sealed['clip_norm']:g}, {sealed['fixed_point_bits']}"),
        ("parts an update is sent in", sealed["fixed_point_parts"]),
        ("rounds that an update may be late", sealed.get("max_staleness", 0)),
        ("hospitals add up by", sealed.get("hospital_rule", "sum").replace("_", " ")),
        ("updates screened", "yes" if sealed.get("screened") else "no"),
        ("in service before", sealed["in_service_release"] or "nothing"),
    ]


def _wristbands(metrics: Mapping[str, Any]) -> str:
    parts = [_figures("Sealed model", metrics["candidate"])]
    if metrics["in_service"]:
        parts.append(_figures("Model in service, same examples", metrics["in_service"]))
    parts.append(FIGURES)
    parts.append("\n".join(f"- {c['rule']}: {c['sentence']}" for c in metrics["checks"]))
    return "\n\n".join(parts)


def _figures(title: str, evaluation: Mapping[str, Any]) -> str:
    scored = ", ".join(evaluation["scored"]) or "no class"
    return (
        f"{title}: {evaluation['num_examples']} held-out examples, "
        f"accuracy {_number(evaluation['accuracy'])}, "
        f"macro-F1 {_number(evaluation['macro_f1'])} over {scored}.\n\n"
        + _class_table(evaluation["classes"])
    )


def _report(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "None was made."
    figures = report["figures"]
    supraventricular = figures["classes"]["S"]
    return "\n\n".join(
        [
            f"**{report['use']}** {report['notice']} R peaks: {report['peaks']}. "
            f"Look number {report['look']} at this test set in this model pool.",
            f"{figures['num_beats']} beats, accuracy {_number(figures['accuracy'])}, "
            f"macro-F1 (N, S, V) {_number(figures['macro_f1_nsv'])}; "
            f"S F1 {_number(supraventricular['f1'])}, "
            f"without record 232 {_number(supraventricular['f1_without_232'])}; "
            f"without record 202 accuracy {_number(report['without_202']['accuracy'])}, "
            f"macro-F1 {_number(report['without_202']['macro_f1_nsv'])}.",
            _class_table(figures["classes"]),
            _table(
                ("EC57 rules (VEB: V; SVEB: S)", "Se", "+P", "FPR"),
                [
                    (title, *(_number(figures[key][name]) for name in _EC57))
                    for title, key in (
                        ("VEB, gross", "veb"),
                        ("VEB, average", "veb_average"),
                        ("SVEB, gross", "sveb"),
                        ("SVEB, average", "sveb_average"),
                    )
                ],
            ),
        ]
    )


_EC57 = ("sensitivity", "positive_predictivity", "false_positive_rate")


def _class_table(classes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (
            label,
            figures["num_beats"],
            _number(figures["sensitivity"]),
            _number(figures["positive_predictivity"]),
            _number(figures["f1"])
            + (
                f" ({_number(figures['f1_without_232'])} without 232)"
                if "f1_without_232" in figures
                else ""
            ),
        )
        for label, figures in classes.items()
    ]
    return _table(("class", "examples", "Se", "+P", "F1"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _items(pairs: Iterable[tuple[str, object]]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in pairs)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _ranges(rounds: Sequence[int]) -> str:
    return f"{min(rounds)} to {max(rounds)} ({len(rounds)})" if rounds else "none"
