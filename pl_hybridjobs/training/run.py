"""What training gives: ``TrainingRun``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from pl_hybridjobs.training.plan import GradientPlan

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Best:
    """The lowest value that was seen.

    Attributes:
        value: It.
        params: The parameters that it belongs to.
        step: The step in which it was computed, from 0.
    """

    value: float
    params: Any
    step: int


@dataclass(frozen=True)
class TrainingRun:
    """How training went.

    Attributes:
        params: The parameters after the last update, in the form in which they were given.
        value: The objective in the last step, at the parameters before its update: training computes no value twice, and none besides.
        best: The lowest value that was seen, with its parameters.
        history: For each metric a float64 array of shape (steps,): ``value_name``, "gradient_norm", "step_time_s", ...
        steps: How many steps were made, over all attempts of the job.
        compiled: Whether the steps ran compiled.
        compile_reason: Why not, if not.
        gradient_method: How the gradient was computed: "adjoint", "backprop", "parameter-shift", "spsa", ...
        stopped_by: "steps", or which stop rule ended it, or why the optimizer did.
        plan: What a step was expected to cost.
        optimizer: The optimizer's state at the end.
        value_name: What the objective is called in ``history``.
    """

    params: Any
    value: float
    best: Best
    history: Mapping[str, Array] = field(repr=False)
    steps: int
    compiled: bool
    compile_reason: str
    gradient_method: str
    stopped_by: str
    plan: GradientPlan | None = field(default=None, repr=False)
    optimizer: Any = field(default=None, repr=False)
    value_name: str = "cost"

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the objective over the steps, with the best value, and the gradient's norm below it.

        Args:
            path: A file to write it to; its suffix says the format.

        Returns:
            Matplotlib's figure.

        Raises:
            ImportError: Matplotlib is missing: ``pip install pl-hybridjobs[plot]``.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("run.plot() needs matplotlib: pip install pl-hybridjobs[plot]") from error
        import numpy as np

        with_gradient = "gradient_norm" in self.history and bool(np.any(np.isfinite(self.history["gradient_norm"])))
        figure = Figure(figsize=(7, 5 if with_gradient else 3.5), layout="constrained")
        axes = figure.subplots(2 if with_gradient else 1, 1, sharex=True, squeeze=False, height_ratios=(2, 1) if with_gradient else (1,))[
            :, 0
        ]
        steps = np.arange(self.steps)
        axes[0].plot(steps, self.history[self.value_name], lw=1.5)
        axes[0].plot([self.best.step], [self.best.value], "o", ms=5, label=f"best {self.best.value:.6g} (step {self.best.step})")
        axes[0].set_ylabel(self.value_name)
        axes[0].legend(frameon=False)
        if with_gradient:
            axes[1].semilogy(steps, self.history["gradient_norm"], lw=1.2, color="tab:gray")
            axes[1].set_ylabel("gradient norm")
        axes[-1].set_xlabel("step")
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure
