"""The region's tensors in the mailbox: models, server states and ring sums, by digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy.typing as npt

from common.contract import Contract
from common.digest import EMPTY_DIGEST, Tensors, tensors_digest
from common.errors import ContractError
from common.fold import Scaled, Sums
from common.mailbox import Mailbox, message_path
from common.messages import (
    LateHeader,
    LatePlan,
    ModelHeader,
    RingSumHeader,
    RoundSpec,
    ServerStateHeader,
)
from common.wire import decode, encode, shapes_of, with_prefix, without_prefix
from regional.late import Contribution, check_fits, late_sums
from regional.learning import location
from regional.progress import Stored

Arrays = dict[str, npt.NDArray[Any]]
MAX_TENSOR_BYTES = 64 << 20

H = TypeVar("H", bound=Contract)


class Store:
    """Reads and writes ``ring/{round}/{digest}.safetensors`` of one region."""

    def __init__(self, mailbox: Mailbox, region: str) -> None:
        self.mailbox = mailbox
        self.region = region

    def trust(self, hospitals: Mapping[str, str]) -> None:
        """Pin the keys of hospitals that an operator admitted; "" leaves the configuration's."""
        for name, public_key in hospitals.items():
            if public_key:
                self.mailbox.trusted.trust(name, public_key)

    def put_model(self, model: Tensors, task: str, made_by_round: int) -> Stored:
        """Write a model; again is no fault."""
        stored = Stored(tensors_digest(model), made_by_round)
        header = ModelHeader(
            region=self.region, task=task, digest=stored.digest, made_by_round=made_by_round
        )
        self.mailbox.put(location(self.region, stored), encode(header, model))
        return stored

    def put_state(self, state: Tensors, made_by_round: int) -> None:
        """Write a server state, unless it is empty."""
        if not state:
            return
        stored = Stored(tensors_digest(state), made_by_round)
        header = ServerStateHeader(
            region=self.region, digest=stored.digest, made_by_round=made_by_round
        )
        self.mailbox.put(location(self.region, stored), encode(header, state))

    def model(self, stored: Stored) -> Arrays:
        """Read a model.

        Raises
        ------
        ContractError
            When it is missing or not what its digest names.
        """
        return self._own(location(self.region, stored), ModelHeader, stored.digest)

    def state(self, path: str, digest: str) -> Arrays:
        """Read a server state that is not empty.

        Raises
        ------
        ContractError
            When it is missing or not what its digest names.
        """
        return self._own(path, ServerStateHeader, digest)

    def base_of(self, spec: RoundSpec) -> tuple[Arrays, Arrays]:
        """Model and server state that a round starts from."""
        base = self._own(spec.locations[spec.base_digest], ModelHeader, spec.base_digest)
        if spec.state_digest == EMPTY_DIGEST:
            return base, {}
        return base, self.state(spec.locations[spec.state_digest], spec.state_digest)

    def sums(self, spec: RoundSpec, digest: str) -> Arrays:
        """Read a ring's sums, signed by any hospital: an earlier generation may have put them.

        Raises
        ------
        FileNotFoundError
            When they are not there yet.
        ContractError
            When they are not what their digest names, or of another round.
        """
        path = message_path(self.region, "ring", spec.round_id, f"{digest}.safetensors")
        header, tensors = decode(self.mailbox.get(path), RingSumHeader, MAX_TENSOR_BYTES)
        if (header.round_id, header.base_digest) != (spec.round_id, spec.base_digest):
            raise ContractError(f"{path} holds the sums of another round or base")
        _check_digest(path, tensors, digest)
        return tensors

    def made_late(self, spec: RoundSpec, contributions: Iterable[Contribution]) -> Scaled:
        """What slow groups' rounds add to the round of `spec`, from their rings' sums.

        Raises
        ------
        ContractError, FileNotFoundError
            When sums or base are missing or not what they are called, or leave 62 bits.
        """
        base, _ = self.base_of(spec)
        sums = ((each, self.sums(each.spec, each.sums_digest)) for each in contributions)
        late = late_sums(shapes_of(base), sums)
        check_fits(late, spec)
        return late

    def put_late(self, late: Scaled, spec: RoundSpec, rounds: tuple[int, ...]) -> LatePlan:
        """Write what slow groups' rounds add to the round of `spec`; again is no fault."""
        header = LateHeader(
            region=self.region,
            round_id=spec.round_id,
            rounds=rounds,
            weight=late.sums.weight,
            exponents=dict(late.exponents),
        )
        tensors = with_prefix("update", late.sums.tensors)
        digest = tensors_digest(tensors)
        path = message_path(self.region, "ring", spec.round_id, f"late-{digest}.safetensors")
        self.mailbox.put(path, encode(header, tensors))
        return LatePlan(digest=digest, path=path, rounds=rounds)

    def late(self, plan: LatePlan) -> Scaled:
        """Read what `put_late` wrote.

        Raises
        ------
        ContractError
            When it is missing or not what its digest names.
        """
        header, tensors = self._read_own(plan.path, LateHeader, plan.digest)
        return Scaled(Sums(without_prefix("update", tensors), header.weight), header.exponents)

    def _own(self, path: str, kind: type[H], digest: str) -> Arrays:
        return self._read_own(path, kind, digest)[1]

    def _read_own(self, path: str, kind: type[H], digest: str) -> tuple[H, Arrays]:
        try:
            data = self.mailbox.get(path, signer="region")
        except FileNotFoundError as fault:
            raise ContractError(f"{path} is missing from the mailbox") from fault
        header, tensors = decode(data, kind, MAX_TENSOR_BYTES)
        _check_digest(path, tensors, digest)
        return header, tensors


def _check_digest(path: str, tensors: Tensors, digest: str) -> None:
    found = tensors_digest(tensors)
    if found != digest:
        raise ContractError(f"{path} holds {found}, not {digest}")
