"""What people do with devices, one function a feature: it raises where a device cannot do it, and AssertionError where the answer is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
from pennylane import numpy as pnp

FEATURES: dict[str, Callable[[str], None]] = {}
X = 0.4


def feature(title: str) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
    def add(function: Callable[[str], None]) -> Callable[[str], None]:
        FEATURES[title] = function
        return function

    return add


def node(
    function: Callable[..., Any], name: str, wires: Any = 2, shots: Any = None, device: dict[str, Any] | None = None, **options: Any
) -> Any:
    found = qml.QNode(function, qml.device(name, wires=wires, **(device or {})), **options)
    return found if shots is None else qml.set_shots(found, shots)


def energy(x):
    qml.RX(x, 0)
    qml.RY(0.3, 1)
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(1) + 0.5 * qml.X(0))


# Z(1) after the circuit is cos(x) cos(0.3); X(0) is sin(0.3) times 0, for RX(x)|0> has no X.
VALUE, SLOPE, CURVATURE = np.cos(X) * np.cos(0.3), -np.sin(X) * np.cos(0.3), -np.cos(X) * np.cos(0.3)


def close(found: Any, expected: Any, within: float = 1e-5) -> None:
    assert np.allclose(np.asarray(found), expected, atol=within), (found, expected)


def raises(action: Callable[[], Any]) -> bool:
    try:
        action()
    except Exception:  # noqa: BLE001  # devices disagree about which
        return True
    return False


@feature("gradient, autograd")
def _(name):
    close(qml.grad(node(energy, name))(pnp.array(X, requires_grad=True)), SLOPE)


@feature("gradient, torch")
def _(name):
    import torch

    x = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    node(energy, name, interface="torch")(x).backward()
    close(x.grad.numpy(), SLOPE)


@feature("`jax.jit` of value and gradient")
def _(name):
    value, slope = jax.jit(jax.value_and_grad(node(energy, name)))(X)
    close(value, VALUE)
    close(slope, SLOPE)


@feature("`jax.vmap` without jit")
def _(name):
    close(jax.vmap(node(energy, name))(jnp.array([X, 0.0])), [VALUE, np.cos(0.3)])


@feature('Hessian under JAX, `diff_method="best"`')
def _(name):
    close(jax.jit(jax.hessian(node(energy, name)))(X), CURVATURE)


@feature("Hessian under JAX by adjoint: right or refused")
def _(name):
    circuit = node(energy, name, diff_method="adjoint")
    circuit(X)
    try:
        found = jax.hessian(circuit)(X)
    except Exception:  # noqa: BLE001
        return
    close(found, CURVATURE)


@feature("Hessian by backprop, autograd")
def _(name):
    circuit = node(energy, name, diff_method="backprop")
    close(qml.grad(qml.grad(circuit))(pnp.array(X, requires_grad=True)), CURVATURE)


@feature("adjoint")
def _(name):
    close(qml.grad(node(energy, name, diff_method="adjoint"))(pnp.array(X, requires_grad=True)), SLOPE)


@feature("parameter-shift, hadamard, finite differences")
def _(name):
    for method in ("parameter-shift", "hadamard", "finite-diff"):
        close(qml.grad(node(energy, name, wires=3, diff_method=method))(pnp.array(X, requires_grad=True)), SLOPE)


@feature("broadcasting")
def _(name):
    close(node(energy, name)(np.array([X, 0.0, 1.0])), np.cos([X, 0.0, 1.0]) * np.cos(0.3))


@feature("gradient of `probs`")
def _(name):
    def circuit(x):
        qml.RX(x, 0)
        return qml.probs(wires=0)

    found = qml.jacobian(node(circuit, name))(pnp.array(X, requires_grad=True))
    close(found, [-np.sin(X) / 2, np.sin(X) / 2])


@feature("gradient of `var` through a chain of CNOT")
def _(name):
    def circuit(x):
        qml.RX(x, 0)
        qml.CNOT([0, 1])
        qml.CNOT([1, 2])
        return qml.var(qml.Z(2))

    close(qml.grad(node(circuit, name, wires=3))(pnp.array(X, requires_grad=True)), np.sin(2 * X))


@feature("gradient of a Hamiltonian's coefficients")
def _(name):
    def circuit(c):
        qml.RX(X, 0)
        return qml.expval(qml.dot(c, [qml.Z(0), qml.Y(0)]))

    close(qml.grad(node(circuit, name))(pnp.array([0.7, 0.2], requires_grad=True)), [np.cos(X), -np.sin(X)])


@feature("gradient of a prepared state")
def _(name):
    def circuit(x):
        qml.StatePrep(qml.math.stack([qml.math.cos(x), qml.math.sin(x)]), wires=0)
        return qml.expval(qml.Z(0))

    close(qml.grad(node(circuit, name))(pnp.array(X, requires_grad=True)), -2 * np.sin(2 * X))


@feature("`qml.metric_tensor`")
def _(name):
    def circuit(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    close(qml.metric_tensor(node(circuit, name))(pnp.array(X, requires_grad=True)), 0.25)


@feature("shots and shot vectors")
def _(name):
    first, second = node(energy, name, shots=[4000, 8000], device={"seed": 1})(X)
    close([first, second], VALUE, 0.1)


@feature("different samples for each call with a JAX key as seed")
def _(name):
    def circuit():
        qml.Hadamard(0)
        return qml.sample(wires=0)

    run = node(circuit, name, shots=64, device={"seed": jax.random.PRNGKey(3)}, diff_method=None)
    assert not np.array_equal(run(), run())


@feature("observables that do not commute, with shots")
def _(name):
    def circuit():
        qml.Hadamard(0)
        return qml.expval(qml.X(0)), qml.expval(qml.Z(0)), qml.counts(wires=0)

    plus, zero, counts = node(circuit, name, shots=2000)()
    close([plus, zero], [1, 0], 0.15)
    assert sum(counts.values()) == 2000


@feature("classical shadows")
def _(name):
    def circuit():
        qml.Hadamard(0)
        return qml.shadow_expval(qml.X(0))

    close(node(circuit, name, shots=4000)(), 1, 0.2)


@feature("SparseHamiltonian")
def _(name):
    matrix = qml.SparseHamiltonian((qml.Z(0) @ qml.X(1)).sparse_matrix(wire_order=[0, 1]), wires=[0, 1])

    def circuit():
        qml.Hadamard(1)
        qml.RX(X, 0)
        return qml.expval(matrix)

    close(node(circuit, name, diff_method=None)(), np.cos(X))


@feature("density matrix, purity, entropy, mutual information")
def _(name):
    def circuit():
        qml.Hadamard(0)
        qml.CNOT([0, 1])
        return qml.density_matrix(0), qml.purity(0), qml.vn_entropy(0), qml.mutual_info(0, 1)

    matrix, purity, entropy, information = node(circuit, name)()
    close(matrix, np.eye(2) / 2)
    close([purity, entropy, information], [0.5, np.log(2), 2 * np.log(2)])


def measured(x):
    qml.RX(x, 0)
    m = qml.measure(0, reset=True)
    qml.cond(m, qml.RY)(1.0, 1)
    return qml.expval(qml.Z(1)), qml.expval(m)


ONE = np.sin(X / 2) ** 2
AFTER = 1 - ONE + ONE * np.cos(1.0)


@feature("mid-circuit measurement: deferred, with reset")
def _(name):
    close(node(measured, name, wires=3)(X), [AFTER, ONE])


@feature("mid-circuit measurement: tree-traversal")
def _(name):
    close(node(measured, name, mcm_method="tree-traversal", shots=4000)(X), [AFTER, ONE], 0.1)


@feature("mid-circuit measurement: one-shot")
def _(name):
    close(node(measured, name, mcm_method="one-shot", shots=400)(X), [AFTER, ONE], 0.2)


@feature("postselection, exact")
def _(name):
    def circuit():
        qml.Hadamard(0)
        qml.CNOT([0, 1])
        qml.measure(0, postselect=1)
        return qml.expval(qml.Z(1))

    close(node(circuit, name, wires=3)(), -1)


@feature("noise channels")
def _(name):
    def circuit():
        qml.X(0)
        qml.AmplitudeDamping(0.25, 0)
        return qml.expval(qml.Z(0))

    close(node(circuit, name)(), -0.5)


@feature("readout error")
def _(name):
    def circuit():
        qml.Identity(0)
        return qml.expval(qml.Z(0))

    close(node(circuit, name, device={"readout_prob": 0.1})(), 0.8)


@feature("wires that are allocated in the circuit")
def _(name):
    def circuit():
        with qml.allocate(1) as work:
            qml.X(work[0])
            qml.CNOT([work[0], 0])
            qml.X(work[0])
        return qml.expval(qml.Z(0))

    close(node(circuit, name, wires=None)(), -1)


@feature("snapshots")
def _(name):
    def circuit():
        qml.Hadamard(0)
        qml.Snapshot("middle", qml.probs(wires=0))
        return qml.expval(qml.X(0))

    found = qml.snapshots(node(circuit, name))()
    close(found["middle"], [0.5, 0.5])
    close(found["execution_results"], 1)


@feature("complex64")
def _(name):
    assert node(lambda: (qml.Hadamard(0), qml.state())[1], name, device={"c_dtype": np.complex64})().dtype == np.complex64


@feature("a traced program that does not grow with the gates")
def _(name):
    def size(count):
        def circuit(x):
            for k in range(count):
                qml.RX(x[k], k % 2)
                qml.CNOT([0, 1])
            return qml.expval(qml.Z(0))

        lowered = jax.jit(node(circuit, name)).lower(jnp.zeros(count))
        return sum("slice" not in line for line in lowered.as_text().splitlines())

    assert size(24) - size(4) < 5 * 20  # indexing of the angles is JAX's own
