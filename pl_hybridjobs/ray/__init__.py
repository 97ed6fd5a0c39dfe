"""Jobs on a Ray cluster: on one that is there, or on one of this machine."""
