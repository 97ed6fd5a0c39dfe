"""Tests of the PennyLane devices."""
