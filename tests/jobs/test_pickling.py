"""Live things that travel as recipes, and what cannot travel, named by its path."""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import dataclasses
import functools
import io
import logging
import os
import pickle
import queue
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pl_hybridjobs
from pl_hybridjobs.errors import CannotTravel
from pl_hybridjobs.jobs import bundle, packing, pickling


def copy_of(obj):
    buffer = io.BytesIO()
    pickling.dump(obj, buffer)
    return pickling.load(io.BytesIO(buffer.getvalue()))


def bytes_of(obj):
    buffer = io.BytesIO()
    pickling.dump(obj, buffer)
    return buffer.getvalue()


def obstacles(fn, *args, **kwargs):
    """The sentences of CannotTravel."""
    with tempfile.TemporaryDirectory() as folder, pytest.raises(CannotTravel) as caught:
        packing.pack(fn, args, kwargs, Path(folder))
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


def take(*args, **kwargs):
    return args, kwargs


# Plain data ------------------------------------------------------------------------------------------------------------

atoms = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
hashables = st.recursive(atoms, lambda inner: st.frozensets(inner, max_size=4) | st.tuples(inner, inner), max_leaves=8)


nests = st.recursive(
    atoms | st.sets(hashables, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(nests)
def test_data_comes_back_as_it_went_and_twice_gives_the_same_bytes(value):
    assert copy_of(value) == value
    assert bytes_of(value) == bytes_of(value)


@given(st.lists(st.text(), unique=True, max_size=6))
def test_the_bytes_of_a_set_do_not_depend_on_the_order_of_insertion(items):
    assert bytes_of(set(items)) == bytes_of({*reversed(items)})


def test_the_bytes_of_a_class_do_not_depend_on_its_earlier_use():
    class Thing:
        pass

    before = bytes_of(Thing)
    bytes_of(Thing())

    assert "__slotnames__" in vars(Thing)
    assert bytes_of(Thing) == before


def test_the_bytes_of_an_abstract_class_do_not_depend_on_the_order_of_registration():
    kept = []  # a registry holds its classes weakly

    def made(names):
        class Base(abc.ABC):  # noqa: B024 - its registry is what counts
            pass

        for name in names:
            kept.append(type(name, (), {}))
            Base.register(kept[-1])
        return Base

    assert bytes_of(made("abcdefgh")) == bytes_of(made("hgfedcba"))
    assert len(abc._get_dump(copy_of(made("abc")))[0]) == 3  # type: ignore[attr-defined]


def test_a_set_of_things_without_an_order_travels_too():
    class Thing:
        pass

    assert len(copy_of({Thing(), Thing()})) == 2


def test_standard_streams_travel_by_name():
    assert copy_of(sys.__stdout__) is sys.__stdout__ or copy_of(sys.__stdout__) is sys.stdout


def test_loggers_travel_by_name():
    logger = logging.getLogger("some.logger")

    assert copy_of({"log": logger, "adapter": logging.LoggerAdapter(logger, {"a": 1})})["log"] is logger
    assert copy_of(logging.getLogger()) is logging.getLogger()


def test_no_part_of_a_registered_module_is_pickled_by_value():
    import cloudpickle

    trace = pickling.dump(take, io.BytesIO())

    assert not cloudpickle.list_registry_pickle_by_value()
    assert trace.references == {__name__}
    assert not trace.codes


# Recipes ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qml():
    return pytest.importorskip("pennylane")


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit", "default.mixed", "reference.qubit"])
def test_a_qnode_on_a_device_gives_the_same_numbers(qml, name, used):
    device = qml.device(name, wires=["a", "b"])

    @qml.qnode(device)
    def circuit(x):
        qml.RX(x, "a")
        qml.CNOT(["a", "b"])
        return qml.expval(qml.Z("b")), qml.probs(wires=["a", "b"])

    if used:
        circuit(0.1)
    copy = copy_of(circuit)

    assert copy.device is not device
    assert copy.device.wires == device.wires
    assert repr(copy(0.3)) == repr(circuit(0.3))


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit", "reference.qubit"])
def test_a_copied_device_continues_the_same_sequence_of_shots(qml, name):
    device = qml.device(name, wires=2, seed=5)

    @functools.partial(qml.set_shots, shots=20)
    @qml.qnode(device)
    def circuit():
        qml.H(0)
        qml.H(1)
        return qml.counts()

    circuit()
    copy = copy_of(circuit)

    assert [copy() for _ in range(5)] == [circuit() for _ in range(5)]


def test_the_options_of_a_device_travel(qml):
    import numpy

    device = qml.device("lightning.qubit", wires=3, c_dtype=numpy.complex64, batch_obs=True)
    copy = copy_of(device)

    assert type(copy) is type(device)
    assert (copy.c_dtype, copy._batch_obs, copy.wires) == (numpy.complex64, True, device.wires)


@pytest.mark.filterwarnings("ignore:Setting shots on device is deprecated")
def test_the_shots_of_a_device_travel_without_its_warning(qml):
    device = qml.device("default.qubit", wires=1, shots=[10, 20], max_workers=2)
    data = bytes_of(device)

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = pickling.load(io.BytesIO(data))

    assert (copy.shots, copy._max_workers) == (device.shots, 2)


def test_a_device_with_an_option_that_cannot_be_read_back_is_pickled_as_it_is(qml):
    device = qml.device("default.mixed", wires=1, readout_prob=0.25)

    assert copy_of(device).readout_err == 0.25


def test_the_hash_of_wires_is_made_anew(qml):
    wires = qml.wires.Wires(["a", "b"])
    fresh = bytes_of(wires)
    hash(wires)

    assert bytes_of(wires) == fresh
    assert hash(copy_of(wires)) == hash(wires)


def test_a_tensor_of_torch_travels_without_its_address(torch):
    module = torch.nn.Linear(2, 2)
    first, second = torch.ones(3), torch.ones(3)

    assert bytes_of(first) == bytes_of(second)
    assert torch.equal(copy_of(first), first)
    assert all(torch.equal(a, b) for a, b in zip(copy_of(module).parameters(), module.parameters(), strict=True))


def test_a_boto3_session_travels_without_its_keys():
    boto3 = pytest.importorskip("boto3")
    session = boto3.Session(region_name="eu-west-2", aws_access_key_id="A" * 16, aws_secret_access_key="zzzzyyyyxxxx")
    buffer = io.BytesIO()
    trace = pickling.dump(session, buffer)

    assert b"zzzzyyyyxxxx" not in buffer.getvalue()
    assert "do not travel" in trace.notes[0]
    assert pickling.load(io.BytesIO(buffer.getvalue())).region_name == "eu-west-2"


def test_boto3_clients_and_resources_travel_as_service_region_and_endpoint(monkeypatch):
    boto3 = pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "zzzzyyyyxxxx")
    plain = copy_of(boto3.client("s3", region_name="eu-west-1"))
    own = copy_of(boto3.client("sts", region_name="us-east-1", endpoint_url="http://localhost:4566"))
    resource = copy_of(boto3.resource("s3", region_name="us-west-2"))

    assert (plain.meta.service_model.service_name, plain.meta.region_name) == ("s3", "eu-west-1")
    assert own.meta.endpoint_url == "http://localhost:4566"
    assert resource.meta.client.meta.region_name == "us-west-2"
    assert b"zzzzyyyyxxxx" not in bytes_of(boto3.client("s3", region_name="eu-west-1"))


# What cannot travel ----------------------------------------------------------------------------------------------------

lock_of_module = threading.Lock()
CONFIG = {"x": {"deep": lock_of_module}}


def test_a_lock_in_a_closure_is_named():
    lock = threading.Lock()

    def train():
        return lock

    assert obstacles(train) == ["train.<closure>.lock is a lock: create it inside the function."]


def test_a_lock_in_a_global_container_is_named():
    def train():
        return CONFIG

    assert obstacles(train) == ['train.<globals>.CONFIG["x"]["deep"] is a lock: create it inside the function.']


def test_all_obstacles_are_gathered():
    class Model:
        def __init__(self):
            self.conn = sqlite3.connect(":memory:")

        def step(self):
            return self.conn

    model = Model()
    found = obstacles(take, 1, {"model": (letter for letter in "")}, cb=model.step, ok=3, numbers=[1, threading.RLock()])
    model.conn.close()

    assert [sentence.split(":")[0] for sentence in found] == [
        'args[1]["model"] is a generator',
        'kwargs["cb"].__self__.conn is a database connection',
        'kwargs["numbers"][1] is a lock',
    ]


def test_an_obstacle_in_a_helper_a_default_a_partial_and_a_slot_is_named():
    lock = threading.Lock()

    class Slotted:
        __slots__ = ("__private", "plain")

        def __init__(self):
            self.plain = 1
            self.__private = lock

    def helper(x, inner=lock):
        return x, inner

    def train():
        return helper

    assert obstacles(train)[0].startswith("train.<closure>.helper.<defaults>.inner is a lock")
    assert obstacles(functools.partial(take, 1, a=lock))[0].startswith('take.keywords["a"] is a lock')
    assert obstacles(take, Slotted())[0].startswith("args[0].__private is a lock")


def test_cycles_do_not_trouble_the_search():
    class Node:
        pass

    node = Node()
    node.me, node.list, node.lock = node, [node], threading.Lock()  # type: ignore[attr-defined]

    assert obstacles(take, node) == ["args[0].lock is a lock: create it inside the function."]


def test_things_of_this_process_are_named_as_what_they_are(tmp_path):
    async def coroutine():
        pass

    running = coroutine()
    with (
        socket.socket() as sock,
        (tmp_path / "data.txt").open("w") as file,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        subprocess.Popen([sys.executable, "-c", ""]) as process,
    ):
        things = [sock, file, pool, process, running, queue.Queue(), threading.Thread(), threading.local(), asyncio.Lock()]
        found = obstacles(take, *things[:-1])
    running.close()

    assert [sentence.split(":")[0] for sentence in found] == [
        "args[0] is a network connection",
        "args[1] is an open file",
        "args[2] is a running thing of this process",
        "args[3] is a running thing of this process",
        "args[4] is a coroutine",
        "args[5] is a queue between threads",
        "args[6] is a running thing of this process",
        "args[7] is thread-local data",
    ]


def test_the_content_of_an_open_file_never_travels(tmp_path):
    (tmp_path / "secret.txt").write_text("content")
    with (tmp_path / "secret.txt").open() as text, (tmp_path / "secret.txt").open("rb") as binary:
        found = obstacles(take, text, {"b": binary})

    assert [sentence.split(" is ")[0] for sentence in found] == ["args[0]", 'args[1]["b"]']


def test_a_copied_environment_object_does_not_travel():
    import copy

    assert "never travels" in obstacles(take, copy.copy(os.environ))[0]  # noqa: PLW1507 - on purpose: it is not a plain dict


def test_an_object_of_unknown_kind_is_named_with_its_class_and_the_reason():
    class Stubborn:
        def __reduce__(self):
            raise RuntimeError("not me\nsecond line")

    found = obstacles(take, [Stubborn()])

    assert found[0].startswith("args[0][0] is a ")
    assert "Stubborn, which cannot be pickled (not me)" in found[0]


def test_a_device_without_a_recipe_that_does_not_pickle_is_named(qml):
    own = type("Own", (qml.devices.Device,), {"execute": lambda self, circuits, execution_config=None: circuits})()
    own.lock = threading.Lock()

    assert obstacles(take, own)[0].startswith("args[0] is a device that cannot be made anew by name")


def test_a_large_array_is_not_taken_for_an_obstacle():
    import numpy as np

    assert obstacles(take, {"a": np.ones(100_000), "lock": threading.Lock()})[0].startswith('args[0]["lock"] is a lock')


def test_the_search_ends_for_a_crowd_of_obstacles():
    found = obstacles(take, [threading.Lock() for _ in range(500)])

    assert len(found) == 21
    assert found[-1] == "There may be more: the search stopped after 20."


# cloudpickle, old and new ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def old_cloudpickle(tmp_path_factory):
    """A folder with cloudpickle 2.2.1, which Braket's SDK pins."""
    folder = tmp_path_factory.mktemp("cloudpickle-2.2.1")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, "cloudpickle==2.2.1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cloudpickle 2.2.1 cannot be installed: {done.stderr.splitlines()[-1] if done.stderr else done.returncode}")
    return folder


TRIP = """
import enum, sys, inspect, functools, threading
from pathlib import Path
from dataclasses import dataclass
import cloudpickle
from pl_hybridjobs.jobs import bundle, packing
from pl_hybridjobs.errors import CannotTravel

class Colour(enum.Enum):
    RED = 1

@dataclass
class Config:
    names: frozenset
    colour: Colour = Colour.RED

def helper(config):
    return sorted(config.names) if config.colour in {Colour.RED} else None

def train(config, *, scale=2):
    def inner(x):
        return x * scale
    return helper(config), inner(4), [type(config) is Config, config.colour is Colour.RED]

if sys.argv[1] == "pack":
    packed = packing.pack(train, (Config(frozenset({"a", "b", "c"})),), {"scale": 3}, Path(sys.argv[2]))
    try:
        packing.pack(train, ([threading.Lock()],), {}, Path(sys.argv[2]))
    except CannotTravel as error:
        assert "args[0][0] is a lock" in str(error)
    print(cloudpickle.__version__, packed.digest)
else:
    fn, args, kwargs = bundle.load(Path(sys.argv[2]))
    print(fn(*args, **kwargs))
"""


def trip(path, *argv, seed="0"):
    root = str(Path(pl_hybridjobs.__path__[0]).parent)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), root]), "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-W", "error", "-c", TRIP, *map(str, argv)], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


RESULT = "(['a', 'b', 'c'], 12, [True, True])"


def test_cloudpickle_2_2_1_packs_and_loads_with_the_same_digest_each_time(old_cloudpickle, tmp_path):
    said = set()
    for seed in "12":
        (tmp_path / seed).mkdir()
        said.add(trip([old_cloudpickle], "pack", tmp_path / seed, seed=seed))

    assert len(said) == 1
    assert said.pop().startswith("2.2.1 ")
    assert bundle.verify(tmp_path / "1")["packages"] == {"cloudpickle": "2.2.1"}
    assert trip([old_cloudpickle], "load", tmp_path / "1") == RESULT


def test_the_installed_cloudpickle_packs_and_loads_with_the_same_digest_each_time(tmp_path):
    said = set()
    for seed in "12":
        (tmp_path / seed).mkdir()
        said.add(trip([], "pack", tmp_path / seed, seed=seed))

    assert len(said) == 1
    assert trip([], "load", tmp_path / "1") == RESULT


def test_what_cloudpickle_2_2_1_packed_is_loaded_by_the_newest(old_cloudpickle, tmp_path):
    trip([old_cloudpickle], "pack", tmp_path)

    assert trip([], "load", tmp_path) == RESULT


def test_the_pickle_is_readable_by_our_loader_alone_because_sets_have_an_order():
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(bytes_of({1, 2}))


def test_a_dataclass_that_travels_by_value_keeps_its_fields():
    space = {"__name__": "__main__", "dataclasses": dataclasses}
    exec("@dataclasses.dataclass\nclass Point:\n    x: float\n    names: list = dataclasses.field(default_factory=list)", space)
    travelled = copy_of(space["Point"])
    assert [field.name for field in dataclasses.fields(travelled)] == ["x", "names"]
    assert travelled(1.0) == travelled(1.0, [])
