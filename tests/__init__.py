"""The tests: one folder for each room of the package, and house, docs, torture and benchmarks."""
