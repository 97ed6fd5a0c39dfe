"""Submits a package that runs as __main__, with hyperparameters and a requirements.txt of its own."""

from pl_hybridjobs.compat.braket import AwsQuantumJob, InstanceConfig

if __name__ == "__main__":
    job = AwsQuantumJob.create(
        device="local:pennylane/lightning.qubit",
        source_module="qaoa_source",
        entry_point="qaoa_source.qaoa_algorithm",
        hyperparameters={"p": 1, "n_nodes": 4, "seed": 1967, "iterations": 8, "stepsize": 0.15, "copy_checkpoints": False},
        instance_config=InstanceConfig(instanceType="ml.c5.xlarge"),
        wait_until_complete=True,
    )
    result = job.result()
    print(result)
