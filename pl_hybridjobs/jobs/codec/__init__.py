"""Any nest of values as strict JSON plus named arrays, and back. No pickle, and no code named by the data is ever called.

Plain dicts with string keys, lists, strings, integers, finite floats, booleans and None stay plain JSON. Everything else is an object
with the key ``"$type"``, for example ``{"$type": "tuple", "items": [1, 2]}``; arrays are
``{"$type": "ndarray", "array": "a0"}``, where ``a0`` names an array in an ``.npz`` file beside the JSON.

Classes are named as ``"module:qualname"``. On the way back a class must be found *and* be what the data claims (a dataclass,
a namedtuple, an enumeration, a PennyLane optimizer); its instance is made without running ``__init__``, so a tampered file can
fill in fields but cannot call anything.

A framework (numpy, jax, torch, PennyLane) is looked for in ``sys.modules`` when encoding, since its values cannot exist before it is
imported, and imported when decoding only if the data holds its values.
"""

from pl_hybridjobs.jobs.codec.decoding import decode
from pl_hybridjobs.jobs.codec.encoding import Encoded, encode
from pl_hybridjobs.jobs.codec.files import dumps, json_bytes, loads, read, write_npz
from pl_hybridjobs.jobs.codec.kinds import is_installed
from pl_hybridjobs.jobs.codec.view import to_plain

__all__ = ["Encoded", "decode", "dumps", "encode", "is_installed", "json_bytes", "loads", "read", "to_plain", "write_npz"]
