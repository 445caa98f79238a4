"""Build Horovod once against the installed torch and keep the wheel in the user's cache.

Horovod 0.28.1 (2023) is the last release and exists as source only.  Two things in it are patched
(`PATCHES`): it pins C++14, which torch >= 2.1 headers refuse, and its data mesh forgets the chosen
network interface.  It is built with Gloo and PyTorch only: no MPI, TensorFlow or MXNet.  The wheel
is kept under ``$XDG_CACHE_HOME/pulsering/wheels/<key>/`` where the key names Horovod, its patches,
torch, Python and the platform, so a second environment installs it in seconds.

Run with the Python of the virtual environment: ``.venv/bin/python scripts/horovod_wheel.py``.
``PULSERING_HOROVOD_GPU=nccl`` adds NCCL for tensors on GPUs, keeps Gloo for all others and gets a
wheel of its own; it wants a CUDA build of torch, the CUDA toolkit and NCCL's headers, and
``HOROVOD_CUDA_HOME`` and ``HOROVOD_NCCL_HOME`` where they are in no usual place.  **Untested**: no
machine of this project has built it yet.
It imports only the standard library, besides asking torch for its version.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

HOROVOD_VERSION = "0.28.1"
PATCH_LEVEL = 1  # raise with any change to PATCHES: it is part of the wheel's key
# One step of x86-64 that every hospital PC of the last ten years has; never the build host's own.
PORTABLE_ARCH_FLAGS = {"x86_64": "-mavx -mf16c -mfma", "aarch64": "", "arm64": ""}
DEVICE = (
    "  attr device_attr;\n  device_attr.iface = gloo_iface_;\n"
    "  device_attr.ai_family = AF_UNSPEC;\n  auto dev = CreateDevice(device_attr);\n"
)
PATCHES = (
    # torch >= 2.1 headers need C++17, torch >= 2.14 C++20; Horovod pins C++14.
    ("CMakeLists.txt", "CMAKE_CXX_STANDARD 14", "CMAKE_CXX_STANDARD 20"),
    ("horovod/torch/CMakeLists.txt", "CMAKE_CXX_STANDARD 14", "CMAKE_CXX_STANDARD 20"),
    # The mesh that carries all data forgets HOROVOD_GLOO_IFACE and takes the address that the
    # host's own name resolves to, which may be another network, or 127.0.0.1.
    (
        "horovod/common/gloo/gloo_context.cc",
        f"{DEVICE}\n  global_ctx = global_context.ctx;\n",
        f"  gloo_iface_ = global_context.gloo_iface_;\n{DEVICE}\n  global_ctx = global_context.ctx;\n",
    ),
    (
        "horovod/__init__.py",
        "__version__ = ",
        f"__pulsering_patches__ = {PATCH_LEVEL}\n__version__ = ",
    ),
)
GPU_VARIABLE = "PULSERING_HOROVOD_GPU"
GPU_OPERATIONS = {
    "": None,
    "nccl": "NCCL",
}  # what the variable may say, what Horovod's build is told
NUM_OBJECTS = 75  # object files of a Gloo + PyTorch build, for the progress line


class SetupError(Exception):
    """A fault of the machine that the user can mend; the message names the remedy."""


def cache_root() -> Path:
    """The user's cache directory for PulseRing (``PULSERING_CACHE`` or XDG)."""
    explicit = os.environ.get("PULSERING_CACHE")
    if explicit:
        return Path(explicit)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "pulsering"


def chosen_gpu() -> str:
    """What ``PULSERING_HOROVOD_GPU`` asks for: ``""`` (no GPU) or ``"nccl"``."""
    gpu = os.environ.get(GPU_VARIABLE, "").strip().lower()
    if gpu not in GPU_OPERATIONS:
        raise SetupError(f"{GPU_VARIABLE}={gpu!r}: write nccl, or leave it away for CPUs only")
    return gpu


def check_gpu_torch(gpu: str, torch_version: str) -> None:
    """Refuse minutes of compiling against a torch that cannot use what they yield."""
    if gpu and torch_version.endswith("+cpu"):
        raise SetupError(
            f"{GPU_VARIABLE}={gpu} needs a CUDA build of torch, and {torch_version} is installed; "
            "set up again with TORCH_INDEX=https://download.pytorch.org/whl/cu126 (or another)"
        )


def wheel_key(torch_version: str, gpu: str = "") -> str:
    """Name of the cache entry: everything the compiled wheel depends on."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    libc = "-".join(part for part in platform.libc_ver() if part) or "libc"
    parts = [f"horovod-{HOROVOD_VERSION}-p{PATCH_LEVEL}", f"torch-{torch_version}", python]
    parts += [sysconfig.get_platform(), libc, *filter(None, [gpu])]
    return "_".join(parts)


def installed_torch() -> str:
    """Version of torch in this environment, such as ``2.13.0+cpu``."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError as missing:
        raise SetupError("torch is not installed here; run `make setup` first") from missing


def require_tools() -> dict[str, str]:
    """Check compiler, Python headers and CMake; return the environment to build with."""
    missing = [tool for tool in ("gcc", "g++", "make") if shutil.which(tool) is None]
    if missing:
        raise SetupError(
            f"{', '.join(missing)} not found: Horovod is compiled once from source. "
            "Install with: sudo apt-get install -y build-essential"
        )
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"{header} not found: Python's headers are missing. "
            f"Install with: sudo apt-get install -y python{version}-dev"
        )
    env = dict(os.environ)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    if shutil.which("cmake", path=env["PATH"]) is None:
        pip("install", "--quiet", "cmake>=3.13")
    return env


def pip(*arguments: str) -> None:
    """Run this environment's pip, quietly unless it fails."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], check=False)
    if done.returncode:
        raise SetupError(f"pip {' '.join(arguments)} failed with exit code {done.returncode}")


def unpack_source(work_dir: Path) -> Path:
    """Download Horovod's source release, unpack it and patch it."""
    pip(
        "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:",
        "--dest", str(work_dir), f"horovod=={HOROVOD_VERSION}",
    )  # fmt: skip
    archive = work_dir / f"horovod-{HOROVOD_VERSION}.tar.gz"
    with tarfile.open(archive) as source:
        source.extractall(work_dir, filter="data")
    tree = work_dir / f"horovod-{HOROVOD_VERSION}"
    for name, was, becomes in PATCHES:
        path = tree / name
        text = path.read_text()
        if text.count(was) != 1:
            raise SetupError(f"{name} of Horovod {HOROVOD_VERSION} is not as expected: {was!r}")
        path.write_text(text.replace(was, becomes))
    return tree


def build_environment(base: dict[str, str], gpu: str = "") -> dict[str, str]:
    """Horovod's build switches: Gloo and PyTorch, NCCL if chosen, nothing else, portable code."""
    base = {key: value for key, value in base.items() if key != "HOROVOD_GPU_OPERATIONS"}
    operations = GPU_OPERATIONS[gpu]
    flags = PORTABLE_ARCH_FLAGS.get(platform.machine(), "")
    jobs = min(os.cpu_count() or 1, 8)
    return (
        base
        | {
            "HOROVOD_WITH_PYTORCH": "1",
            "HOROVOD_WITH_GLOO": "1",
            "HOROVOD_WITHOUT_MPI": "1",
            "HOROVOD_WITHOUT_TENSORFLOW": "1",
            "HOROVOD_WITHOUT_MXNET": "1",
            "HOROVOD_BUILD_ARCH_FLAGS": os.environ.get("HOROVOD_BUILD_ARCH_FLAGS", flags),
            "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # CMake 4 dropped what Horovod's files ask for
            "CXXFLAGS": f"{base.get('CXXFLAGS', '')} -include cstdint".strip(),  # gcc >= 13
            "MAKEFLAGS": os.environ.get("MAKEFLAGS", f"-j{jobs}"),
        }
        | ({"HOROVOD_GPU_OPERATIONS": operations} if operations else {})
    )


def compile_wheel(tree: Path, out_dir: Path, env: dict[str, str], log_path: Path) -> Path:
    """Compile, showing one line that moves; the compiler's whole output goes to `log_path`."""
    command = [
        sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--no-build-isolation",
        "--wheel-dir", str(out_dir), str(tree),
    ]  # fmt: skip
    started = time.monotonic()
    num_built = 0
    shown_s = -60.0
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            num_built += "Building CXX object" in line or "Building C object" in line
            elapsed_s = time.monotonic() - started
            if sys.stderr.isatty() or elapsed_s - shown_s >= 30:
                shown_s = elapsed_s
                end = "\r" if sys.stderr.isatty() else "\n"
                print(
                    f"  Horovod: {num_built} of about {NUM_OBJECTS} files compiled, {elapsed_s:.0f} s",
                    end=end, file=sys.stderr, flush=True,
                )  # fmt: skip
        code = process.wait()
    print(file=sys.stderr)
    wheels = sorted(out_dir.glob("horovod-*.whl"))
    if code or not wheels:
        kept = Path(tempfile.gettempdir()) / "horovod-build.log"
        shutil.copy(log_path, kept)
        tail = "".join(log_path.read_text().splitlines(keepends=True)[-15:])
        raise SetupError(
            f"Horovod did not compile; the whole output is in {kept}. Its end:\n{tail}"
        )
    return wheels[0]


def is_installed() -> bool:
    """Whether this environment has Horovod with just these patches, and it loads."""
    question = "import horovod, horovod.torch; print(horovod.__pulsering_patches__)"
    asked = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() == str(PATCH_LEVEL)


def ensure_wheel() -> Path:
    """Path of a cached wheel for this environment, built now when there is none."""
    torch_version, gpu = installed_torch(), chosen_gpu()
    check_gpu_torch(gpu, torch_version)
    entry = cache_root() / "wheels" / wheel_key(torch_version, gpu)
    cached = sorted(entry.glob("horovod-*.whl"))
    if cached:
        return cached[0]
    env = build_environment(require_tools(), gpu)
    print(
        f"Building Horovod {HOROVOD_VERSION} for torch {torch_version} "
        "(once for this machine, 3 to 9 minutes on 2 cores)",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory(prefix="pulsering-horovod-") as scratch:
        work_dir = Path(scratch)
        tree = unpack_source(work_dir)
        built = compile_wheel(tree, work_dir / "out", env, work_dir / "build.log")
        entry.mkdir(parents=True, exist_ok=True)
        partial = entry / f".{built.name}.{os.getpid()}"
        shutil.copy(built, partial)
        partial.replace(entry / built.name)
    return entry / built.name


def main() -> int:
    """Build if needed, install unless told not to; exit code 1 with one sentence on a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--no-install", action="store_true", help="build and cache the wheel only")
    parser.add_argument("--if-needed", action="store_true", help="do nothing when it is installed")
    arguments = parser.parse_args()
    if arguments.if_needed and is_installed():
        return 0
    try:
        wheel = ensure_wheel()
        if not arguments.no_install:
            pip("install", "--quiet", "--no-deps", "--force-reinstall", str(wheel))
    except SetupError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    print(f"Horovod {HOROVOD_VERSION}: {wheel}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
