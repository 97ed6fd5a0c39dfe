"""Pure physics: arrays in, arrays out. Knows neither PennyLane nor jobs."""
