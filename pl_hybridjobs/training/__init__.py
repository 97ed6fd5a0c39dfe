"""Training: steps, gradients, stop rules and checkpoints wired into one loop. Knows ``jobs``, and no devices."""
