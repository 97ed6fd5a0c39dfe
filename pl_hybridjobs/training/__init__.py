"""The training loop: gradients, metrics, checkpoints and exact resume.

``pl_hybridjobs.train`` and ``pl_hybridjobs.training_loop`` are its doors; here are the stop rules for ``train(stop=...)``.
"""

from pl_hybridjobs.training.stopping import GradientNorm, Patience, Progress, Target, WallTime

__all__ = ["GradientNorm", "Patience", "Progress", "Target", "WallTime"]
