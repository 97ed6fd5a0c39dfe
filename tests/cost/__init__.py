"""Tests of the cost room."""
