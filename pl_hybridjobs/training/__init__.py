"""The training loop: gradients, metrics, checkpoints and exact resume.

``pl_hybridjobs.train`` and ``pl_hybridjobs.training_loop`` are its doors; here are the stop rules for ``train(stop=...)``,
and ``Batches`` for loops with a body of one's own.
"""

from pl_hybridjobs.training.batches import Batches
from pl_hybridjobs.training.stopping import GradientNorm, Patience, Progress, Target, WallTime

__all__ = ["Batches", "GradientNorm", "Patience", "Progress", "Target", "WallTime"]
