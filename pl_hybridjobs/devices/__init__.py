"""PennyLane's side: devices on our simulators. Knows ``sim``, and no jobs."""
