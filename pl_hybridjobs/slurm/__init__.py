"""Jobs on a cluster that Slurm looks after."""
