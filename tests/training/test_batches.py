from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pennylane import numpy as pnp

from pl_hybridjobs.errors import CheckpointError, InvalidCall
from pl_hybridjobs.jobs import codec
from pl_hybridjobs.training.batches import Batches, complaints, generators


def take(batches, count):
    return [batches.next() for _ in range(count)]


def rows_of(batches, count):
    """The first arguments of so many steps, as lists of numbers."""
    return [np.asarray(arguments[0]).tolist() for arguments in take(batches, count)]


class Randomness:
    """Captures and restores the global generators, as the loop does."""

    @staticmethod
    def capture() -> Any:
        import sys

        torch = sys.modules.get("torch")
        return random.getstate(), np.random.get_state(), torch and torch.get_rng_state()

    @staticmethod
    def restore(state: Any) -> None:
        import sys

        random.setstate(state[0])
        np.random.set_state(state[1])
        if state[2] is not None:
            sys.modules["torch"].set_rng_state(state[2])


def streamed(data):
    return Batches(data, capture=Randomness.capture, restore=Randomness.restore)


class Shuffled:
    """A stream that orders each epoch anew by a global generator."""

    def __init__(self, draw, count=7):
        self.draw, self.count = draw, count

    def __iter__(self):
        yield from ([int(row), row / 10] for row in self.draw(self.count))


DRAWS = {"numpy": np.random.permutation, "random": lambda count: random.sample(range(count), count)}


# What a step gets


def test_without_data_each_step_has_no_arguments():
    batches = Batches()

    assert take(batches, 3) == [(), (), ()]
    assert batches.steps_per_epoch is None


def test_an_array_gives_one_argument_and_the_last_batch_what_is_left():
    batches = Batches(np.arange(7), 3, shuffle=False)

    assert rows_of(batches, 4) == [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]]
    assert batches.steps_per_epoch == 3


@pytest.mark.parametrize("nest", [tuple, list])
def test_several_arrays_give_one_argument_each_in_their_order(nest):
    x, y = np.arange(10).reshape(5, 2), np.arange(5) * 10

    for batch_x, batch_y in take(Batches(nest([x, y]), 2, seed=0), 10):
        assert (batch_x[:, 0] * 5 == batch_y).all()
        assert batch_x.shape == (len(batch_y), 2)


def test_a_dict_of_arrays_gives_one_dict():
    ((batch,),) = take(Batches({"x": np.arange(4), "y": np.arange(4) * 2}, 3, seed=0), 1)

    assert (batch["x"] * 2 == batch["y"]).all()
    assert len(batch["x"]) == 3


@pytest.mark.parametrize("shuffle", [True, False])
def test_without_a_batch_size_each_step_gets_all_data_itself(shuffle):
    x, y = np.arange(5), np.arange(5)
    batches = Batches((x, y), shuffle=shuffle)

    for arguments in take(batches, 3):
        assert arguments[0] is x
        assert arguments[1] is y
    assert batches.steps_per_epoch == 1
    assert batches.epoch == 2


def test_the_epoch_is_that_of_the_newest_batch():
    batches = Batches(np.arange(5), 2)
    seen = [(batches.next(), batches.epoch)[1] for _ in range(7)]

    assert seen == [0, 0, 0, 1, 1, 1, 2]


def test_batches_without_shuffling_are_not_copied(torch):
    array, tensor = np.arange(6.0), torch.arange(6.0)

    assert take(Batches(array, 2, shuffle=False), 2)[1][0].base is array
    assert take(Batches(tensor, 2, shuffle=False), 2)[1][0].data_ptr() == tensor[2:].data_ptr()


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_is_an_array_of_the_same_kind(shuffle, torch):
    import jax
    import jax.numpy as jnp

    arrays = (np.arange(6, dtype=np.float32), pnp.arange(6.0, requires_grad=False), jnp.arange(6.0), torch.arange(6.0))
    plain, penny, jaxy, torchy = Batches(arrays, 4, shuffle=shuffle, seed=1).next()

    assert type(plain) is np.ndarray
    assert plain.dtype == np.float32
    assert type(penny) is pnp.tensor
    assert penny.requires_grad is False
    assert isinstance(jaxy, jax.Array)
    assert isinstance(torchy, torch.Tensor)
    assert plain.tolist() == penny.tolist() == jaxy.tolist() == torchy.tolist()


@pytest.mark.parametrize(
    ("item", "arguments"),
    [((1, "a"), (1, "a")), ([1, 2], (1, 2)), (5, (5,)), ({"x": 1}, ({"x": 1},)), ("ab", ("ab",)), ((), ())],
)
def test_an_item_of_a_stream_is_splatted_if_it_is_a_tuple_or_list(item, arguments):
    assert take(Batches([item]), 2) == [arguments] * 2


# The order of arrays


@given(rows=st.integers(1, 40), size=st.integers(1, 40), seed=st.integers(0, 2**63), shuffle=st.booleans())
def test_each_epoch_gives_every_row_once(rows, size, seed, shuffle):
    size = min(rows, size)
    batches = Batches(np.arange(rows), size, shuffle, seed)
    steps = batches.steps_per_epoch
    assert steps == -(-rows // size)

    for _ in range(3):
        given = rows_of(batches, steps)
        assert all(len(batch) == size for batch in given[:-1])
        flat = [row for batch in given for row in batch]
        assert sorted(flat) == list(range(rows))
        assert shuffle or flat == sorted(flat)


@given(
    rows=st.integers(1, 12), size=st.integers(1, 12), seed=st.none() | st.integers(0, 99), shuffle=st.booleans(), done=st.integers(0, 30)
)
def test_arrays_resume_at_any_position_with_what_would_have_come_next(rows, size, seed, shuffle, done):
    data, size = np.arange(rows), min(rows, size)
    whole = Batches(data, size, shuffle, seed)
    take(whole, done)
    resumed = Batches(data, size, shuffle, None if seed is None else seed + 1)
    resumed.load(whole.state())

    assert resumed.epoch == whole.epoch
    assert rows_of(resumed, 10) == rows_of(whole, 10)


def test_epochs_and_seeds_have_orders_of_their_own():
    data = np.arange(50)

    orders = {tuple(rows) for seed in (0, 1, 2) for rows in rows_of(Batches(data, 50, seed=seed), 3)}

    assert len(orders) == 9
    assert rows_of(Batches(data, 50, seed=1), 3) == rows_of(Batches(data, 50, seed=1), 3)


def test_without_a_seed_each_run_has_fresh_orders():
    assert rows_of(Batches(np.arange(50), 50), 1) != rows_of(Batches(np.arange(50), 50), 1)


def test_drawing_from_arrays_leaves_the_global_generator_alone():
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    take(Batches(np.arange(5), 2), 7)

    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


# The position of streams


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("done", range(17))
def test_a_stream_resumes_at_any_position_with_what_would_have_come_next(draw, done):
    """The objective draws from the same generators; those are what they were, too."""

    def steps(batches, count):
        return [(batches.next(), random.random(), np.random.random()) for _ in range(count)]

    random.seed(1), np.random.seed(1)
    whole = streamed(Shuffled(draw))
    steps(whole, done)
    state, randomness = whole.state(), Randomness.capture()
    expected = steps(whole, 20)

    random.seed(2), np.random.seed(2)
    resumed = streamed(Shuffled(draw))
    Randomness.restore(randomness)
    resumed.load(state)

    assert steps(resumed, 20) == expected


@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("done", [0, 1, 4, 6])
def test_a_shuffling_dataloader_resumes_with_what_would_have_come_next(own_generator, done, torch):
    from torch.utils.data import DataLoader, TensorDataset

    def build(seed):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed) if own_generator else None
        data = TensorDataset(torch.arange(10), torch.arange(10) * 2)
        loader = DataLoader(data, batch_size=3, shuffle=True, generator=generator)
        mine = generators(loader)
        assert mine == ([generator] if own_generator else [])

        def capture():
            return torch.get_rng_state(), [one.get_state() for one in mine]

        def restore(state):
            torch.set_rng_state(state[0])
            for one, its in zip(mine, state[1], strict=True):
                one.set_state(its)

        return Batches(loader, capture=capture, restore=restore), capture, restore

    def steps(batches, count):
        return [([column.tolist() for column in batches.next()], torch.rand(()).item()) for _ in range(count)]

    whole, capture, _ = build(0)
    steps(whole, done)
    state, randomness = whole.state(), capture()
    expected = steps(whole, 6)

    resumed, _, restore = build(1)
    restore(randomness)
    resumed.load(state)

    assert steps(resumed, 6) == expected
    assert resumed.steps_per_epoch == 4


def test_each_epoch_of_a_dataloader_gives_every_row_once(torch):
    from torch.utils.data import DataLoader, TensorDataset

    batches = Batches(DataLoader(TensorDataset(torch.arange(10)), batch_size=3, shuffle=True))

    epochs = [sorted(row for batch in rows_of(batches, 4) for row in batch) for _ in range(3)]

    assert epochs == [list(range(10))] * 3


def test_a_position_is_something_that_a_checkpoint_holds():
    batches = streamed(Shuffled(np.random.permutation))
    take(batches, 3)
    arrays = Batches(np.arange(5), 2)
    take(arrays, 3)

    for state, data in [(arrays.state(), np.arange(5)), (Batches().state(), None)]:
        held = codec.loads(*codec.dumps(state))
        assert held == state
        Batches(data, 2 if data is not None else None).load(held)
    held = codec.loads(*codec.dumps(batches.state()))
    resumed = streamed(Shuffled(np.random.permutation))
    resumed.load(held)
    assert take(resumed, 4) == take(batches, 4)


def test_loading_leaves_the_random_states_as_they_are():
    batches = streamed(Shuffled(np.random.permutation))
    take(batches, 3)
    state = batches.state()
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)

    streamed(Shuffled(np.random.permutation)).load(state)

    assert np.random.random() == expected


def numbers_to(count):
    yield from range(count)


def test_a_generator_resumes_when_it_is_made_anew():
    whole = Batches(numbers_to(9))
    take(whole, 4)
    resumed = Batches(numbers_to(9))
    resumed.load(whole.state())

    assert take(resumed, 5) == take(whole, 5) == [(4,), (5,), (6,), (7,), (8,)]


def test_a_generator_that_runs_out_says_so_each_time_and_what_to_do():
    batches = Batches(numbers_to(3))
    take(batches, 3)

    for _ in range(2):
        with pytest.raises(InvalidCall, match="ran out after 3 batches, and a generator can be gone through only once; give a list"):
            batches.next()


def test_a_generator_that_was_begun_cannot_be_set_back():
    batches = Batches(numbers_to(3))
    take(batches, 2)

    with pytest.raises(InvalidCall, match="make a new one"):
        batches.load(Batches(numbers_to(3)).state())


def test_a_stream_without_a_batch_says_so():
    with pytest.raises(InvalidCall, match="no batch at all in epoch 0"):
        Batches(Shuffled(np.random.permutation, count=0)).next()


def test_a_stream_that_was_shortened_does_not_resume():
    whole = Batches([1, 2, 3])
    take(whole, 3)

    with pytest.raises(CheckpointError, match="has only 2 batches in epoch 0, but 3 were taken"):
        Batches([1, 2]).load(whole.state())


@pytest.mark.parametrize(
    ("saved", "now", "text"),
    [
        (Batches(np.arange(4), 2), Batches(np.arange(5), 2), "rows was 4 and is 5"),
        (Batches(np.arange(4), 2), Batches(np.arange(4), 3), "batch_size was 2 and is 3"),
        (Batches(np.arange(4), 2), Batches(np.arange(4), 2, shuffle=False), "shuffle was True and is False"),
        (Batches(np.arange(4), 2), Batches([1, 2]), "kind was 'arrays' and is 'stream'"),
        (Batches(), Batches(np.arange(4)), "kind was 'none' and is 'arrays'"),
    ],
)
def test_a_position_in_other_data_is_refused(saved, now, text):
    with pytest.raises(CheckpointError, match=text):
        now.load(saved.state())


def test_a_stream_without_a_length_does_not_tell_its_steps():
    assert Batches(numbers_to(3)).steps_per_epoch is None
    assert Batches([1, 2]).steps_per_epoch == 2


# Bad input


class Table:
    """As much of a pandas data frame as matters."""

    iloc, shape, dtype = None, (3, 2), None

    def __getitem__(self, key):
        raise KeyError(key)


class MapStyle:
    """A torch Dataset that is indexed, not iterated."""

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(
    ("data", "batch_size", "shuffle", "expected"),
    [
        (np.arange(3), 0, True, ["batch_size must be a whole number of at least 1"]),
        (np.arange(3), 2.0, True, ["batch_size must be"]),
        (np.arange(3), True, True, ["batch_size must be"]),
        (np.arange(3), 4, True, ["batch_size=4 is more than the data has (3 rows)"]),
        (np.arange(3), 2, 1, ["shuffle must be True or False, not 1"]),
        (None, 2, True, ["batch_size=2 is of no use without data"]),
        ([(1, 2)], 2, True, ["batch_size=2 does not go with data that comes in batches already (a list)"]),
        (numbers_to(2), 2, True, ["batch_size=2 does not go"]),
        (5, None, True, ["data=5 is a single value"]),
        ("abc", None, True, ["data='abc' is a single value"]),
        (np.float64(1), None, True, ["data=np.float64(1.0) is a single value"]),
        (np.array(1.0), None, True, ["data=array(1.) is a single value"]),
        ((np.arange(3), np.arange(4)), 2, True, ["the arrays in data differ in their number of rows: data[0] has 3, data[1] has 4"]),
        ([np.arange(3), np.arange(2)], None, True, ["the arrays in data differ"]),
        ({"x": np.arange(3), "y": np.arange(4)}, 2, True, ["the arrays in data differ in their number of rows: data['x'] has 3"]),
        ({"x": [1, 2]}, None, True, ["data['x'] is no array with rows but a list; say numpy.asarray(...)"]),
        (([1, 2], [3, 4]), None, True, ["data[0] is no array", "data[1] is no array"]),
        ((np.arange(3), None), None, True, ["data[1] is no array with rows but a NoneType"]),
        (np.zeros((0, 3)), None, True, ["data is empty"]),
        ([], None, True, ["data is empty"]),
        ((), None, True, ["data is empty"]),
        ({}, None, True, ["data is empty"]),
        ({1, 2}, None, True, ["data is a set, which has no order"]),
        (Table(), None, True, ["data is a Table; give its numbers as an array"]),
        (len, None, True, ["data is a builtin_function_or_method, which cannot be iterated; give arrays"]),
        (MapStyle(), None, True, ["data is a MapStyle, which cannot be iterated; put a torch Dataset into a DataLoader"]),
        (3, 0, "yes", ["shuffle must", "batch_size must", "data=3"]),
    ],
)
def test_every_wrong_argument_is_named_with_what_to_do(data, batch_size, shuffle, expected):
    found = complaints(data, batch_size, shuffle)

    assert len(found) == len(expected)
    assert all(sentence.startswith(start) for sentence, start in zip(found, expected, strict=True)), found
    with pytest.raises(InvalidCall):
        Batches(data, batch_size, shuffle)


@pytest.mark.parametrize("data", [None, np.arange(3), (np.arange(3),), {"x": np.arange(3)}, [1], [(1, 2), (3,)], range(3)])
def test_right_arguments_draw_no_complaint(data):
    assert complaints(data) == []


def test_a_batch_size_of_numpy_is_a_whole_number_too():
    assert rows_of(Batches(np.arange(3), np.int64(2), shuffle=False), 2) == [[0, 1], [2]]  # type: ignore[arg-type]
