"""What training says that it will cost, beside what its devices are really asked."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs import hybrid_job, job_device, list_jobs, train
from pl_hybridjobs.cost.prices import Price
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.training.plan import plan_gradient
from pl_hybridjobs.training.stopping import Target

SHOP = Price(device="shop:one", per_task_usd=Decimal("0.30"), per_shot_usd=Decimal("0.01"))
START = np.array([0.1, 0.2])


class Shop(type(qml.device("default.qubit"))):  # type: ignore[misc]
    """A simulator that has a price and takes several circuits as one task; it keeps its bill."""

    target = "shop:one"

    def __init__(self, price=SHOP, circuits_per_task=1, **options):
        super().__init__(**options)
        self.price, self.circuits_per_task, self.bill = lambda: price, circuits_per_task, []

    def tasks_for(self, shots):
        return -(-len(shots) // self.circuits_per_task)

    def execute(self, circuits, execution_config=None):
        shots = [circuit.shots.total_shots for circuit in circuits]
        self.bill.append((self.tasks_for(shots), sum(shots)))
        return super().execute(circuits, execution_config)

    @property
    def paid(self):
        return sum(SHOP.usd(tasks=tasks, shots=shots) for tasks, shots in self.bill)


def energy_on(device, shots=20):
    def circuit(x):
        qml.RX(x[0], 0)
        qml.RY(x[1], 1)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(1))

    return qml.set_shots(qml.QNode(circuit, device, diff_method="parameter-shift"), shots)


@pytest.mark.parametrize("circuits_per_task", [1, 3, 100])
def test_a_run_costs_what_the_plan_says(circuits_per_task):
    shop = Shop(wires=2, seed=1, circuits_per_task=circuits_per_task)
    run = train(energy_on(shop), pnp.array(START), optimizer=qml.GradientDescentOptimizer(0.1), steps=3, compile=False, progress=False)

    assert run.plan is not None
    assert run.plan.run is not None
    assert run.plan.run.usd == (shop.paid, shop.paid)
    assert run.plan.run.tasks == sum(tasks for tasks, _ in shop.bill)
    assert run.plan.cost_per_step == pytest.approx(float(shop.paid) / 3)
    assert f"3 steps: {run.plan.run.tasks} tasks, 300 shots, " in str(run.plan)


def test_planning_buys_nothing():
    shop = Shop(wires=2)
    plan = plan_gradient(energy_on(shop), pnp.array(START)).over(100, may_end_sooner=True)

    assert shop.bill == []
    assert plan.run is not None
    assert plan.run.usd == (Decimal(0), Decimal(250))  # 5 tasks of 0.30 and 100 shots of 0.01 in each of 100 steps


def test_on_ones_own_machine_a_step_costs_nothing():
    plan = plan_gradient(energy_on(qml.device("default.qubit", wires=2)), pnp.array(START)).over(10)

    assert (plan.cost_per_step, plan.run, plan.purchases) == (0.0, None, ())


def test_of_other_peoples_devices_nothing_is_said_and_nothing_is_called_free():
    class Theirs(type(qml.device("default.qubit"))):  # type: ignore[misc]
        name = "their.simulator"

    plan = plan_gradient(energy_on(Theirs(wires=2)), pnp.array(START)).over(10)

    assert (plan.cost_per_step, plan.run) == (None, None)
    assert "price" not in str(plan)


def test_an_unknown_price_is_said_and_is_not_zero():
    plan = plan_gradient(energy_on(Shop(wires=2, price=None)), pnp.array(START)).over(2)

    assert plan.cost_per_step is None
    assert "for a price that is not known (shop:one)" in str(plan)


def test_the_log_says_when_a_budget_will_not_do(capfd):
    def job():
        shop = Shop(wires=2)
        train(energy_on(shop), pnp.array(START), optimizer=qml.GradientDescentOptimizer(0.1), steps=9, stop=Target(9.0), compile=False)

    hybrid_job(job, budget={"max_usd": 7}).inline()

    assert "plan: parameter-shift on default.qubit: 5 circuits a step, 100 shots; at most 9 steps: 45 tasks, 900 shots, 22.50 USD" in (
        said := capfd.readouterr().out
    )
    assert "the budget of job job (at most 7.00 USD; so far nothing bought) is enough for 2 of 9 steps" in said


LOOPS: list[object] = []


@hybrid_job(device="rehearsal:ideal?task_usd=0.30&shot_usd=0.01", budget={"max_usd": 1})
def descent(steps, before=False):
    energy = energy_on(job_device(wires=2))
    if before:
        energy(START)
    LOOPS.append(steps)
    train(energy, pnp.array(START), optimizer=qml.GradientDescentOptimizer(0.1), steps=steps, progress=False)
    LOOPS.append("ran")


def test_a_forecast_tells_the_whole_run_and_buys_nothing(capsys):
    LOOPS.clear()
    told = descent.forecast(steps=10)

    assert told.cost == pytest.approx(10 * 5 * (0.30 + 20 * 0.01))
    assert "10 steps: 50 tasks, 1,000 shots, 25.00 USD" in told.forecast
    assert f"forecast: {told.forecast}" in str(told)
    assert LOOPS == [10]  # it began, and did not go on
    assert list_jobs() == []
    assert capsys.readouterr().out == ""


def test_a_forecast_says_what_it_cannot_know():
    told = descent.forecast(steps=10, before=True)

    assert told.cost is None
    assert "outside of train" in told.forecast


def test_a_forecast_of_a_function_that_buys_nothing_is_free():
    told = hybrid_job(lambda: 3, device="rehearsal:ideal?task_usd=0.30").forecast()

    assert told.cost == 0.0
    assert "without train" in told.forecast


def test_a_forecast_raises_what_the_function_raises():
    with pytest.raises(InvalidCall, match="steps=-1 must be a whole number"):
        descent.forecast(steps=-1)
