"""Circuits with free parameters, whose values come from input files: one of a path, and a channel of several."""

import numpy as np
from braket.circuits import Circuit, FreeParameter
from braket.devices import LocalSimulator

from pl_hybridjobs.compat.braket import PersistedJobDataFormat, get_input_data_dir, hybrid_job, save_job_result

input_file = "data/angles.npy"


@hybrid_job(
    device="local:braket/braket_sv",
    input_data={"angles": input_file, "labels": "data/labels"},
    data_format=PersistedJobDataFormat.PICKLED_V4,
)
def evaluate():
    circuit = Circuit().rx(0, FreeParameter("alpha")).probability()
    device = LocalSimulator("braket_sv")
    angles = np.load(input_file)
    assert np.array_equal(angles, np.load(f"{get_input_data_dir('angles')}/angles.npy"))
    names = [open(f"data/labels/{number}.txt").read() for number in range(len(angles))]
    values = [device.run(circuit, shots=0, inputs={"alpha": float(angle)}).result().values[0] for angle in angles]
    save_job_result({"names": names}, PersistedJobDataFormat.PICKLED_V4)
    return {"probabilities": np.array(values)}


if __name__ == "__main__":
    job = evaluate()
    result = job.result(allow_pickle=True)
    print(result)
