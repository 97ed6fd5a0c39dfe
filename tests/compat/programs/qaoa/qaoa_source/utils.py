"""Helpers of the algorithm."""

import pennylane as qml


def init_device(device_string, n_wires):
    prefix, _, name = device_string.partition("/")
    assert prefix == "local:pennylane"
    return qml.device(name, wires=n_wires)


def ring(n_nodes):
    return [(node, (node + 1) % n_nodes) for node in range(n_nodes)]
