"""The ServerApp: Flower's own FedAvg, all hospitals in every round, no evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg


def main(grid: Grid, context: Context) -> None:
    """Run the rounds that the run's configuration asks for and keep the last model."""
    folder, config = Path(context.run_config["folder"]), context.run_config
    num_hospitals = int(config["num-hospitals"])
    with np.load(folder / "initial.npz") as initial:
        arrays = ArrayRecord([initial[name] for name in sorted(initial.files)])
    strategy = FedAvg(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=num_hospitals,
        min_available_nodes=num_hospitals,
    )
    result = strategy.start(grid, arrays, num_rounds=int(config["num-rounds"]))
    last = result.arrays.to_numpy_ndarrays()
    np.save(folder / "last.npy", np.concatenate([array.ravel() for array in last]))


app = ServerApp()
app.main()(main)
