"""Only who creates the job has changed: the algorithm still imports the SDK's own functions."""

from pathlib import Path

from pl_hybridjobs.compat.braket import LocalQuantumJob

if __name__ == "__main__":
    Path("given.txt").write_text("given")
    job = LocalQuantumJob.create(
        device="local:none/none",
        source_module="algorithm_script.py",
        entry_point="algorithm_script:start_here",
        hyperparameters={"rate": 0.5},
        input_data="given.txt",
        job_name="unchanged",
    )
    result = job.result()
