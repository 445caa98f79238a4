"""The daily job: from a sealed model to a release or a refusal, once.

Each sealed message goes through the same steps, and a step that was done is found done: read and
verify, decide, export, prove parity, make the int8 file or refuse it, register, put into service,
tell the region, and only then score the test set for the card.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cloud.card import write_card
from cloud.config import CloudConfig
from cloud.export import TOLERANCE, build_release
from cloud.gate import Check, Decision, judge, refusal
from cloud.int8 import build_int8
from cloud.pool_files import SIGNER
from cloud.registry import open_registry
from cloud.release import Release
from cloud.report import Track, score_test_set
from cloud.verify import SEALED_BY, Envelope, check_sealed, read_sealed
from common.ecg.sources import open_source
from common.errors import ContractError, ParityError, PulseRingError
from common.mailbox import Mailbox, message_path
from common.messages import ReleaseHeader, SealedHeader
from common.signing import PUBLIC_NAME, Keyring, Signer
from common.tasks.task import Parameters
from common.wire import decode, encode

Say = Callable[[str], None]


@dataclass(frozen=True)
class DayResult:
    """What became of one sealed message.

    `failed` means that no decision could be made, as with a signature that does not fit; nothing
    was written then.
    """

    day: int
    message: str
    decision: Literal["released", "refused", "failed"]
    rule: str
    already_done: bool = False
    release: Release | None = None
    checks: tuple[Check, ...] = ()
    warning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {
            "day": self.day,
            "message": self.message,
            "decision": self.decision,
            "rule": self.rule,
            "already_done": self.already_done,
            "release": self.release.model_dump(mode="json") if self.release else None,
            "checks": [asdict(check) for check in self.checks],
            "warning": self.warning,
        }


class DailyJob:
    """Joins mailbox, model pool and the pure steps for one region.

    Parameters
    ----------
    config : CloudConfig
        Of the region.
    data : Path
        Root of the ECG for the report; synthetic ECG stands in for what it lacks.
    now : callable
        Seconds since the epoch.
    say, track : callable
        Show a step, and progress over records.
    """

    def __init__(
        self, config: CloudConfig, data: Path, now: Callable[[], float], say: Say, track: Track
    ) -> None:
        self._config = config
        self._data = data
        self._now = now
        self._say = say
        self._track = track
        self._signer = Signer.at(SIGNER, config.state_dir)
        own_key = config.state_dir / PUBLIC_NAME
        trusted = Keyring({SEALED_BY: config.trusted.region_key, SIGNER: own_key})
        self._mailbox = Mailbox(config.mailbox, self._signer, trusted)
        self._registry = open_registry(config)

    def close(self) -> None:
        """Give back the database's connections."""
        self._registry.close()

    def run(self, day: int | None = None) -> tuple[DayResult, ...]:
        """Decide on every sealed message of `day`, or of all days; empty when nothing is sealed."""
        region = self._config.region
        days = self._mailbox.numbers(region, "to-cloud") if day is None else [day]
        return tuple(
            self._process(number, name)
            for number in days
            for name in self._mailbox.names(region, "to-cloud", number)
        )

    def _process(self, day: int, name: str) -> DayResult:
        try:
            envelope = read_sealed(self._mailbox, self._config.region, day, name)
            result = self._told(envelope) or self._decide(envelope)
            return self._with_report(result, envelope)
        except ContractError as fault:
            return DayResult(day, name, "failed", fault.message)

    def _told(self, envelope: Envelope) -> DayResult | None:
        """The decision that the region has been told already, if it has."""
        path = _notice_path(envelope)
        if not self._mailbox.exists(path):
            return None
        header, _ = decode(self._mailbox.get(path, signer=SIGNER), ReleaseHeader)
        if header.sealed_digest != envelope.header.model_digest:
            raise ContractError(f"{path} was decided on another sealed model")
        release = self._registry.get(header.release) if header.release else None
        decided = _result(envelope, header.decision, header.rule)
        return replace(decided, already_done=True, release=release)

    def _decide(self, envelope: Envelope) -> DayResult:
        self._say(f"day {envelope.header.day}: verifying and judging the sealed model")
        try:
            sealed = check_sealed(envelope)
        except ContractError as fault:
            return self._refuse(envelope, refusal("valid_message", fault.message))
        judgement = judge(sealed, self._config.gate)
        if not judgement.decision.released:
            return self._refuse(envelope, judgement.decision)
        self._say(f"day {sealed.header.day}: exporting to ONNX and comparing with torch")
        try:
            built, onnx_bytes = build_release(sealed, judgement.to_dict(), self._now())
        except (ContractError, ParityError) as fault:
            return self._refuse(envelope, refusal("export", fault.message))
        int8, int8_bytes = build_int8(sealed.task, onnx_bytes)
        built = built.model_copy(update={"int8": int8})
        warning = _comparison_warning(sealed.header, self._registry.current(built.region))
        release = self._publish(built, onnx_bytes, int8_bytes, envelope)
        self._tell(envelope, judgement.decision, release.name, sealed.parameters)
        result = _result(envelope, "released", judgement.decision.rule)
        checks = judgement.decision.checks
        result = replace(result, release=release, checks=checks, warning=warning)
        return _warned(result, f"no int8 file: {int8.refusal}" if int8.refusal else "")

    def _publish(
        self, built: Release, onnx_bytes: bytes, int8_bytes: bytes | None, envelope: Envelope
    ) -> Release:
        """Register, write the card and, where that is automatic, put into service."""
        release = self._registry.register(built, onnx_bytes, self._signer, int8_bytes)
        write_card(self._registry.folder(release.name), release, envelope.header)
        current = self._registry.current(release.region)
        superseded = current is not None and current.day > release.day
        if self._config.promotion == "by_person" or superseded:
            return release
        self._say(f"{release.name} goes into service")
        return self._registry.promote(release.name, promoted_by="daily job", now=self._now())

    def _refuse(self, envelope: Envelope, decision: Decision) -> DayResult:
        self._tell(envelope, decision, "", {})
        result = _result(envelope, "refused", decision.rule)
        return replace(result, checks=decision.checks)

    def _tell(
        self, envelope: Envelope, decision: Decision, release: str, parameters: Parameters
    ) -> None:
        sealed = envelope.header
        header = ReleaseHeader(
            region=sealed.region,
            day=sealed.day,
            decision="released" if release else "refused",
            release=release,
            rule=decision.rule,
            task=sealed.task,
            sealed_digest=sealed.model_digest,
            model_digest=sealed.model_digest,
        )
        self._mailbox.put(_notice_path(envelope), encode(header, parameters))

    def _with_report(self, result: DayResult, envelope: Envelope) -> DayResult:
        """Add the report to a release that lacks it; a fault here changes no decision."""
        release = result.release
        wanted = self._config.report and envelope.header.task == "beats"
        if release is None or release.report is not None or not wanted:
            return result
        self._say(f"{release.name}: scoring the test set, for the card only")
        try:
            report = self._report(release, envelope)
        except PulseRingError as fault:
            return _warned(result, f"no report: {fault.message}")
        release = self._registry.add_report(release.name, report)
        write_card(self._registry.folder(release.name), release, envelope.header)
        return _warned(replace(result, release=release), _parity_warning(report))

    def _report(self, release: Release, envelope: Envelope) -> dict[str, Any]:
        source = open_source(self._data)
        reports = [other.report for other in self._registry.releases()]
        looks = sum(report is not None and report["source"] == source.kind for report in reports)
        _, onnx_bytes = self._registry.verified_model(release.name)
        parameters = check_sealed(envelope).parameters
        return score_test_set(parameters, onnx_bytes, source, looks + 1, self._track)


def run_daily(
    config: CloudConfig,
    data: Path,
    now: Callable[[], float],
    day: int | None = None,
    say: Say = lambda _: None,
    track: Track = lambda names: names,
) -> tuple[DayResult, ...]:
    """Run the daily job once; parameters as those of `DailyJob` and `DailyJob.run`.

    Raises
    ------
    PulseRingError
        When another daily job of this state directory is at work.
    """
    with _alone(config.state_dir):
        job = DailyJob(config, data, now, say, track)
        try:
            return job.run(day)
        finally:
            job.close()


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "daily.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise PulseRingError(f"another daily job is at work in {state_dir}") from fault
        yield


def _comparison_warning(header: SealedHeader, current: Release | None) -> str:
    """Say so when the region compared with another model than the one that is replaced."""
    expected = (header.in_service_digest, header.model_digest)
    if current is None or current.day > header.day or current.model_digest in expected:
        return ""
    return f"{current.name} was in service, and no wristband evaluated it beside this model"


def _warned(result: DayResult, warning: str) -> DayResult:
    return replace(result, warning="; ".join(filter(None, (result.warning, warning))))


def _parity_warning(report: Mapping[str, Any]) -> str:
    parity = report["parity"]
    return f"onnxruntime differs from torch by {parity:.2g}" if parity > TOLERANCE else ""


def _notice_path(envelope: Envelope) -> str:
    sealed = envelope.header
    name = f"{sealed.model_digest}.safetensors"
    return message_path(sealed.region, "to-region", sealed.day, name)


def _result(envelope: Envelope, decision: Literal["released", "refused"], rule: str) -> DayResult:
    name = f"{envelope.header.model_digest}.safetensors"
    return DayResult(envelope.header.day, name, decision, rule)
