"""A variational classifier of two moons, trained in mini-batches, killed on the way: the resumed job ends in the same bits.

Two equal jobs run side by side; one is killed by kill -9 and resumed. The optimizer is optax's Adam where optax is installed, else
PennyLane's. With matplotlib the loss and the accuracies are drawn to qml_classifier.png.

    python demos/qml_classifier.py [--quick]
"""

import argparse
import importlib.util
import os
import signal
import time

import numpy as np
import pennylane as qml

from pl_hybridjobs import hybrid_job, job_device, train

WIRES, LAYERS = 2, 4


def two_moons(samples: int, seed: int):
    """Points of two half circles that reach into each other, with noise 0.15, shape (samples, 2), and their labels, -1 or 1."""
    rng = np.random.default_rng(seed)
    labels, angles = rng.choice([-1.0, 1.0], samples), np.pi * rng.random(samples)
    points = np.stack([labels * np.cos(angles), labels * np.sin(angles)], axis=1)
    points += np.where(labels[:, None] > 0, [0.0, 0.0], [1.0, 0.5])
    return points + 0.15 * rng.normal(size=points.shape), labels


@hybrid_job(device="hybridjobs.qubit", tags={"demo": "qml_classifier"})
def classify(steps: int = 400, batch_size: int = 32, stepsize: float = 0.05):
    """Train on 256 points, try on 500 others."""
    training, unseen = two_moons(256, seed=1), two_moons(500, seed=2)

    @qml.qnode(job_device(wires=WIRES))
    def score(params, points):  # points of shape (n, 2) give n results
        for scale, weights in zip(params["scales"], params["weights"], strict=True):
            qml.AngleEmbedding(scale * points, wires=range(WIRES), rotation="Y")  # the data, once more in each layer
            qml.StronglyEntanglingLayers(weights[None], wires=range(WIRES))
        return qml.expval(qml.PauliZ(0))

    def loss(params, points, labels):
        return ((score(params, points) - labels) ** 2).mean()

    def accuracy(params, points, labels):
        return np.mean(score(params, points) * labels > 0)

    run = train(
        loss,
        {"scales": np.ones((LAYERS, WIRES)), "weights": np.random.default_rng(3).normal(scale=0.3, size=(LAYERS, WIRES, 3))},
        optimizer=adam(stepsize),
        steps=steps,
        data=training,
        batch_size=batch_size,
        seed=4,
        value_name="loss",
        metrics=lambda params: {"train_accuracy": accuracy(params, *training), "test_accuracy": accuracy(params, *unseen)},
        checkpoint_every=10,
    )
    return {"params": run.params, "train": accuracy(run.params, *training), "test": accuracy(run.params, *unseen)}


def adam(stepsize: float):
    """Adam of optax; of PennyLane where that is missing."""
    try:
        import optax
    except ModuleNotFoundError:
        return qml.AdamOptimizer(stepsize)
    return optax.adam(stepsize)


def main() -> None:
    """Train twice, kill one, resume it, compare."""
    parser = argparse.ArgumentParser(description="a variational classifier as a hybrid job")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    steps = 80 if parser.parse_args().quick else 400
    print(f"optimizer: Adam of {type(adam(0.1)).__module__.partition('.')[0]}")

    undisturbed, job = classify(steps), classify(steps)
    print(f"submitted {undisturbed.name} and {job.name}; follow one with: hybridjobs metrics -f {job.name}")
    while not job.checkpoints():
        if job.status.is_over:
            job.result()
        time.sleep(0.02)
    lease = job.state().lease
    assert lease is not None, "a job that saves has an owner"
    os.kill(lease.owner.pid, signal.SIGKILL)
    print(f"{job.name} was killed (kill -9) and is {job.wait(timeout=30)}; resuming from step {job.checkpoints()[-1].step} ...")
    result, expected = job.resume().result(), undisturbed.result()

    ours, theirs = job.metrics(), undisturbed.metrics()
    names = [name for name in theirs.names if name != "step_time_s"]
    same = [np.array_equal(result["params"][leaf], expected["params"][leaf]) for leaf in expected["params"]]
    same += [np.array_equal(ours[name], theirs[name]) for name in names]
    print(f"attempts {job.attempt}, steps logged {len(ours['loss'])}, last loss {ours['loss'][-1]:.4f}")
    print(f"parameters and {', '.join(names)} {'are the same bits' if all(same) else 'DIFFER'} in both jobs")
    print(f"train accuracy {result['train']:.3f}, test accuracy {result['test']:.3f}")
    if importlib.util.find_spec("matplotlib"):
        job.plot("qml_classifier.png", "loss", "train_accuracy", "test_accuracy")
        print("drawn: qml_classifier.png")
    if not all(same) or result["test"] < 0.9:
        raise SystemExit("the resumed job differs, or the classifier has not learned")


if __name__ == "__main__":
    main()
