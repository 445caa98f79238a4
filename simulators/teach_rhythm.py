"""The rhythm branch learns the public simulated rhythms before any region does.

``make rhythm-start`` writes `common/tasks/rhythm_start.safetensors`, a minute on one core; to be
run again, and the file committed, when the simulator, the RR features or the branch change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import save_file

from common.ecg.labels import AAMI
from common.tasks.registry import get_task
from common.tasks.rhythm_start import FILE
from common.tasks.task import Examples, Parameters, load_parameters, parameters
from simulators import rhythm
from simulators.public import SEED as PUBLIC_SEED
from simulators.trainer import WEIGHT_DECAY, pin_to_one_thread

TASK = "beats"
BRANCH = "rhythm"  # what the names of its parameters begin with
N, S = AAMI.index("N"), AAMI.index("S")
SEED = 0
NUM_STEPS, BATCH_SIZE = 6000, 256
LR_START, LR_END = 3e-3, 6e-5
TELL_EVERY = 1000  # steps
S_SHARE = 0.24  # of a batch; from 0.12 the same rounds reach 3 points less on DS1

console = Console(stderr=True)

MADE_BY = "make rhythm-start: simulated rhythms only, no patient's data"
REPOSITORY = Path(__file__).resolve().parent.parent


def taught(num_steps: int = NUM_STEPS, tell: Callable[[int], None] = lambda _: None) -> Parameters:
    """Return the rhythm branch's parameters after steps of 256 simulated beats each.

    AdamW, its learning rate falling along half a cosine.
    """
    task, public = get_task(TASK), rhythm.public_examples(PUBLIC_SEED)
    rng = np.random.default_rng(SEED)
    module = task.build().train()
    load_parameters(module, task.initial(SEED, simulated=False))
    branch = [p for name, p in module.named_parameters() if name.startswith(BRANCH)]
    optimizer = torch.optim.AdamW(branch, weight_decay=WEIGHT_DECAY, fused=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for step in range(num_steps):
            share = (1 + math.cos(math.pi * step / num_steps)) / 2
            optimizer.param_groups[0]["lr"] = LR_END + (LR_START - LR_END) * share
            batch = _drawn(public, rng)
            inputs = {name: torch.from_numpy(rows) for name, rows in batch.inputs.items()}
            loss = task.loss(module, inputs, torch.from_numpy(batch.labels))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if (step + 1) % TELL_EVERY == 0:
                tell(step + 1)
    return {name: v for name, v in parameters(module).items() if name.startswith(BRANCH)}


def _drawn(public: Examples, rng: np.random.Generator) -> Examples:
    conducted, ectopic = (np.flatnonzero(public.labels == label) for label in (N, S))
    num_s = rng.binomial(BATCH_SIZE, S_SHARE)
    chosen = [rng.choice(conducted, BATCH_SIZE - num_s), rng.choice(ectopic, num_s)]
    return public.take(np.concatenate(chosen))


def main() -> None:
    pin_to_one_thread()
    params = taught(tell=lambda n: console.print(f"{n}/{NUM_STEPS} steps", style="dim"))
    path = REPOSITORY / "common" / "tasks" / FILE
    save_file(params, path, metadata={"made_by": MADE_BY})
    console.print(f"written to {path.relative_to(REPOSITORY)}", highlight=False)


if __name__ == "__main__":
    main()
