"""The suite that tries to break it: faults at random and at named points, and planted bugs that it must catch."""
