from __future__ import annotations

import pytest

from scripts import horovod_wheel
from scripts.horovod_wheel import SetupError

TORCH = "2.13.0+cu126"


@pytest.mark.parametrize(
    ("said", "gpu"), [(None, ""), ("", ""), ("nccl", "nccl"), ("NCCL ", "nccl")]
)
def test_gpu_is_chosen_by_the_environment(
    said: str | None, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(horovod_wheel.GPU_VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(horovod_wheel.GPU_VARIABLE, said)
    assert horovod_wheel.chosen_gpu() == gpu


def test_refuses_another_gpu_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(horovod_wheel.GPU_VARIABLE, "rocm")
    with pytest.raises(SetupError, match="PULSERING_HOROVOD_GPU='rocm': write nccl"):
        horovod_wheel.chosen_gpu()


def test_wheel_with_nccl_has_a_key_of_its_own() -> None:
    plain = horovod_wheel.wheel_key(TORCH)
    assert horovod_wheel.wheel_key(TORCH, "nccl") == f"{plain}_nccl"
    assert plain.startswith("horovod-0.28.1-p1_torch-2.13.0+cu126_cp3")


def test_nccl_is_built_beside_gloo_only_when_chosen() -> None:
    leaked = {"PATH": "/usr/bin", "HOROVOD_GPU_OPERATIONS": "MPI"}
    plain = horovod_wheel.build_environment(leaked)
    nccl = horovod_wheel.build_environment(leaked, "nccl")
    assert "HOROVOD_GPU_OPERATIONS" not in plain
    assert nccl == plain | {"HOROVOD_GPU_OPERATIONS": "NCCL"}
    assert (nccl["HOROVOD_WITH_GLOO"], nccl["HOROVOD_WITHOUT_MPI"]) == ("1", "1")


def test_cuda_homes_reach_the_build() -> None:
    homes = {"HOROVOD_CUDA_HOME": "/opt/cuda", "HOROVOD_NCCL_HOME": "/opt/nccl"}
    assert homes.items() <= horovod_wheel.build_environment(homes, "nccl").items()


def test_nccl_wants_a_torch_with_cuda() -> None:
    horovod_wheel.check_gpu_torch("", "2.13.0+cpu")
    horovod_wheel.check_gpu_torch("nccl", TORCH)
    with pytest.raises(SetupError, match="needs a CUDA build of torch"):
        horovod_wheel.check_gpu_torch("nccl", "2.13.0+cpu")
