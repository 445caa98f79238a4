"""What an edge node reads from the mailbox: models, server states, outcomes; cached by digest."""

from __future__ import annotations

from pathlib import Path

from common import wire
from common.digest import EMPTY_DIGEST, Tensors, tensors_digest
from common.errors import ContractError
from common.mailbox import MAX_FILE_BYTES, Mailbox, message_path, write_durably
from common.messages import (
    LateHeader,
    LatePlan,
    ModelHeader,
    RoundOutcome,
    RoundSpec,
    ServerStateHeader,
)
from edge.screening import Way, way_between

COORDINATOR = "region"


class Models:
    """Verified files in ``state_dir/models``, fetched from the mailbox when they are lacking."""

    def __init__(self, mailbox: Mailbox, folder: Path) -> None:
        self._mailbox = mailbox
        self._folder = folder

    def path(self, digest: str) -> Path:
        """Where the file of that digest is kept."""
        return self._folder / f"{digest}.safetensors"

    def state_path(self, spec: RoundSpec) -> Path | None:
        """Where the round's server state is kept; ``None`` for an empty one."""
        return None if spec.state_digest == EMPTY_DIGEST else self.path(spec.state_digest)

    def fetch(self, spec: RoundSpec) -> Tensors:
        """Make sure that all a round needs is here; return the base model's tensors.

        Raises
        ------
        ContractError, OSError
            When a file is not there (yet), cannot be trusted, or is not what its name says.
        """
        for digest in spec.evaluate:
            self._have(spec, digest, ModelHeader)
        if spec.state_digest != EMPTY_DIGEST:
            self._have(spec, spec.state_digest, ServerStateHeader)
        if spec.screen and spec.screen.reference:
            self._have(spec, spec.screen.reference, ModelHeader)
        return self._have(spec, spec.base_digest, ModelHeader)

    def way(self, spec: RoundSpec) -> Way | None:
        """How the model went from the screen's reference to the round's base; None without one.

        Raises
        ------
        ContractError, OSError
            As `fetch`.
        """
        if spec.screen is None or spec.screen.reference is None:
            return None
        base = self._have(spec, spec.base_digest, ModelHeader)
        before = self._have(spec, spec.screen.reference, ModelHeader)
        return way_between(before, base, spec.fixed_point)

    def fetch_late(self, late: LatePlan) -> Path:
        """Make sure that the late sums of a plan are here; say where.

        Raises
        ------
        ContractError, OSError
            When they are not there (yet), cannot be trusted, or are not what their name says.
        """
        path = self.path(late.digest)
        if not path.exists():
            data = self._mailbox.get(late.path, max_bytes=MAX_FILE_BYTES, signer=COORDINATOR)
            _, tensors = wire.decode(data, LateHeader, MAX_FILE_BYTES)
            if tensors_digest(tensors) != late.digest:
                raise ContractError(f"the file for {late.digest} holds other tensors")
            write_durably(path, data)
        return path

    def encoded(self, digest: str) -> bytes:
        """Bytes of a model that was fetched."""
        return self.path(digest).read_bytes()

    def keep_only(self, spec: RoundSpec) -> None:
        """Delete files that this round does not need."""
        reference = spec.screen.reference if spec.screen else None
        named = (spec.base_digest, spec.state_digest, reference, *spec.evaluate)
        needed = {self.path(digest) for digest in named if digest}
        for path in self._folder.glob("*.safetensors"):
            if path not in needed:
                path.unlink()

    def rounds(self, region: str) -> list[int]:
        """Rounds of which the mailbox knows, in order."""
        return self._mailbox.numbers(region, "ring")

    def outcome(self, region: str, round_id: int) -> RoundOutcome | None:
        """How a missed round ended; ``None`` when the mailbox does not say.

        Raises
        ------
        ContractError
            When the file cannot be trusted or is no outcome of that round.
        """
        path = message_path(region, "ring", round_id, "outcome.json")
        if not self._mailbox.exists(path):
            return None
        data = self._mailbox.get(path, max_bytes=wire.MAX_JSON_BYTES, signer=COORDINATOR)
        outcome = wire.decode_json(data, RoundOutcome)
        if (outcome.region, outcome.round_id) != (region, round_id):
            raise ContractError(f"{path} holds the outcome of round {outcome.round_id}")
        return outcome

    def _have(
        self, spec: RoundSpec, digest: str, kind: type[ModelHeader] | type[ServerStateHeader]
    ) -> Tensors:
        path = self.path(digest)
        if path.exists():
            return _checked(path.read_bytes(), digest, kind)
        if digest not in spec.locations:
            raise ContractError(f"round {spec.round_id} does not say where {digest} lies")
        data = self._mailbox.get(
            spec.locations[digest], max_bytes=wire.MAX_TENSOR_MESSAGE_BYTES, signer=COORDINATOR
        )
        tensors = _checked(data, digest, kind)
        write_durably(path, data)
        return tensors


def _checked(
    data: bytes, digest: str, kind: type[ModelHeader] | type[ServerStateHeader]
) -> Tensors:
    header, tensors = wire.decode(data, kind)
    if header.digest != digest or tensors_digest(tensors) != digest:
        raise ContractError(f"the file for {digest} holds other tensors")
    return tensors
