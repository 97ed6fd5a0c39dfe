"""The training loop: gradients, metrics, checkpoints and resume, wired together."""
