"""Speed and size, measured and printed, each ratio within one run: `python -m pytest -m benchmark -s`. Off by default."""
