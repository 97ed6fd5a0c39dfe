"""MaxCut of six nodes and eight edges by QAOA, as a hybrid job, against the best of all 64 cuts.

python demos/qaoa_maxcut.py [--quick]
"""

import argparse
import itertools

import numpy as np
import pennylane as qml

from pl_hybridjobs import hybrid_job, job_device, train

NODES = range(6)
EDGES = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (3, 5), (4, 5)]


def cut_size(bits: tuple[int, ...]) -> int:
    """How many edges have their ends on different sides."""
    return sum(bits[a] != bits[b] for a, b in EDGES)


@hybrid_job(device="hybridjobs.qubit", tags={"demo": "qaoa_maxcut"})
def qaoa(layers: int = 3, steps: int = 60, stepsize: float = 0.05):
    """Maximise the expected cut; returns it, and the most probable cut."""
    dev = job_device(wires=6)
    cost = qml.sum(*(0.5 * (qml.Identity(a) - qml.PauliZ(a) @ qml.PauliZ(b)) for a, b in EDGES))

    def circuit(params):
        for node in NODES:
            qml.Hadamard(wires=node)
        for gamma, beta in params:
            for a, b in EDGES:
                qml.IsingZZ(gamma, wires=[a, b])
            for node in NODES:
                qml.RX(2 * beta, wires=node)

    @qml.qnode(dev)
    def expected_cut(params):
        circuit(params)
        return qml.expval(cost)

    @qml.qnode(dev)
    def probabilities(params):
        circuit(params)
        return qml.probs(wires=NODES)

    start = np.full((layers, 2), 0.4)
    run = train(lambda p: -expected_cut(p), start, optimizer=qml.AdamOptimizer(stepsize), steps=steps, value_name="negative_cut")
    best = int(np.argmax(probabilities(run.best.params)))
    bits = tuple(int(b) for b in f"{best:06b}")
    return {"expected_cut": -run.best.value, "bits": bits, "cut": cut_size(bits)}


def main() -> None:
    """Run and compare."""
    parser = argparse.ArgumentParser(description="QAOA MaxCut as a hybrid job")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    quick = parser.parse_args().quick
    optimum = max(map(cut_size, itertools.product((0, 1), repeat=6)))
    job = qaoa(steps=40 if quick else 100)
    print(f"submitted {job.name}; follow it with: hybridjobs metrics -f {job.name}")
    result = job.result()
    print(f"expected cut {result['expected_cut']:.3f}, most probable cut {result['bits']} with {result['cut']} edges")
    print(f"brute force: {optimum} edges")
    if result["cut"] != optimum:
        raise SystemExit("QAOA missed the optimum")


if __name__ == "__main__":
    main()
