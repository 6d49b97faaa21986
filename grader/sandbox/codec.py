"""The one language between a check and student code: a tree of plain values and tensors, as JSON and raw bytes.

A message is a tree of None, bool, int, float, str, list, tuple, dict, named tuple, dtype, device, tensor, and the
three stand-ins below. It never holds code and is never unpickled, so reading one cannot run anything. Tensors keep
dtype, device, size, stride, offset and requires_grad, and tensors that share a storage share it again on the other
side, so expanded, transposed and aliased arguments arrive as what they are.
"""

import functools
import json
import math
import struct
from collections import namedtuple
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

MAX_MESSAGE = 1 << 28       # bytes
MAX_ELEMENTS = 1 << 26      # of one tensor, however small the storage behind it
MAX_DEPTH = 50


class CodecError(ValueError):
    """A message that is not well-formed, or a value that has no place in one."""


@dataclass(frozen=True)
class Handle:
    """An object that stays with the student's code, by number."""

    number: int


@dataclass(frozen=True)
class Fixture:
    """A callable or module both sides know by name (see fixtures.py)."""

    name: str


@dataclass(frozen=True)
class Opaque:
    """Something a student's code returned that the vocabulary has no word for; only its type's name travels."""

    type_name: str


def pack(tree: Any) -> bytes:
    """Encode a tree as one message. A value outside the vocabulary becomes Opaque."""
    storages = _Storages()
    body = _encode(tree, storages, 0)
    header = json.dumps({"body": body, "storages": [len(blob) for blob in storages.blobs]}, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(header)), header, *storages.blobs])


def unpack(message: bytes) -> Any:
    """Decode a message. Raises CodecError, and nothing else, on anything that pack would not have written."""
    try:
        (length,) = struct.unpack_from("<I", message)
        header = json.loads(message[4 : 4 + length].decode())
        blobs, start = [], 4 + length
        for size in header["storages"]:
            if not isinstance(size, int) or size < 0 or start + size > len(message):
                raise CodecError(f"a storage of {size} bytes does not fit a message of {len(message)}")
            blobs.append(bytearray(message[start : start + size]))
            start += size
        if start != len(message):
            raise CodecError(f"{len(message) - start} bytes too many")
        return _decode(header["body"], _DecodedStorages(blobs), 0)
    except CodecError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, OverflowError,
            RecursionError, struct.error) as error:
        raise CodecError(f"not a message: {type(error).__name__}: {error}") from None


def write_message(stream: BinaryIO, message: bytes) -> None:
    """Write one message with its length before it."""
    stream.write(struct.pack("<Q", len(message)) + message)
    stream.flush()


def read_message(stream: BinaryIO, limit: int = MAX_MESSAGE) -> bytes | None:
    """Read one message; None at the end of the stream. Raises CodecError when it is cut off or over the limit."""
    prefix = _read_exactly(stream, 8)
    if not prefix:
        return None
    if len(prefix) < 8:
        raise CodecError("the stream ended inside a length")
    (length,) = struct.unpack("<Q", prefix)
    if length > limit:
        raise CodecError(f"a message of {length} bytes is over the limit of {limit}")
    message = _read_exactly(stream, length)
    if len(message) < length:
        raise CodecError(f"the stream ended after {len(message)} of {length} bytes")
    return message


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    parts, left = [], count
    while left and (part := stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """The leaves of a tree with their paths ("0", "mask", "1.memory"), in order."""
    if isinstance(tree, dict):
        children = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        children = list(zip(tree._fields, tree, strict=True))
    elif isinstance(tree, list | tuple):
        children = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return [(path, tree)]
    return [leaf for key, value in children for leaf in leaves(value, f"{path}.{key}" if path else key)]


# encoding ------------------------------------------------------------------------------------------------------

class _Storages:
    """The storages of a message, each sent once however many tensors view it."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self._index: dict[tuple[str, int, int], int] = {}

    def add(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        identity = (str(tensor.device), storage.data_ptr(), storage.nbytes())
        if identity not in self._index or not storage.nbytes():
            flat = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
            self.blobs.append(flat.cpu().numpy().tobytes())
            self._index[identity] = len(self.blobs) - 1
        return self._index[identity]


def _encode(value: Any, storages: _Storages, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return {"opaque": "a structure nested too deeply"}
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if abs(value) < 1 << 4096 else {"opaque": "a very large int"}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        return _encode_tensor(value, storages)
    if kind is list:
        return [_encode(item, storages, depth + 1) for item in value]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"record": [kind.__name__, list(value._fields), [_encode(v, storages, depth + 1) for v in value]]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, storages, depth + 1) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, storages, depth + 1), _encode(v, storages, depth + 1)] for k, v in value.items()]}
    if kind is torch.dtype:
        return {"dtype": str(value).removeprefix("torch.")}
    if kind is torch.device:
        return {"device": str(value)}
    if kind is Handle:
        return {"handle": value.number}
    if kind is Fixture:
        return {"fixture": value.name}
    if kind is Opaque:
        return {"opaque": value.type_name}
    return {"opaque": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")}


def _encode_tensor(tensor: Tensor, storages: _Storages) -> Any:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return {"opaque": f"a {tensor.layout} tensor on {tensor.device}"}
    plain = tensor.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
    if plain.numel() > MAX_ELEMENTS:
        return {"opaque": f"a tensor of {plain.numel()} elements"}
    elements = 1 + sum((size - 1) * step for size, step in zip(plain.shape, plain.stride(), strict=True))
    if plain.untyped_storage().nbytes() > 16 * max(elements, 1) * plain.element_size() + 4096:
        plain = plain.clone()                       # a small view of a large buffer: send what is seen
    return {"tensor": {
        "dtype": str(plain.dtype).removeprefix("torch."), "device": str(plain.device), "size": list(plain.shape),
        "stride": list(plain.stride()), "offset": plain.storage_offset(), "grad": bool(tensor.requires_grad),
        "storage": storages.add(plain),
    }}


# decoding ------------------------------------------------------------------------------------------------------

class _DecodedStorages:
    """A message's storages, each made once per device so that views share it."""

    def __init__(self, blobs: list[bytearray]) -> None:
        self._blobs, self._made = blobs, {}

    def get(self, index: int, device: torch.device) -> torch.UntypedStorage:
        if not isinstance(index, int) or not 0 <= index < len(self._blobs):
            raise CodecError(f"no storage {index!r} in this message")
        if (index, device) not in self._made:
            blob = self._blobs[index]
            flat = torch.frombuffer(blob, dtype=torch.uint8) if blob else torch.empty(0, dtype=torch.uint8)
            self._made[index, device] = flat.to(device).untyped_storage()
        return self._made[index, device]


def _decode(node: Any, storages: _DecodedStorages, depth: int) -> Any:
    if depth > MAX_DEPTH + 1:
        raise CodecError("nested too deeply")
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, list):
        return [_decode(item, storages, depth + 1) for item in node]
    (tag, content), = node.items()
    match tag:
        case "float":
            return float(content)
        case "tuple":
            return tuple(_decode(item, storages, depth + 1) for item in content)
        case "dict":
            return {_decode(k, storages, depth + 1): _decode(v, storages, depth + 1) for k, v in content}
        case "record":
            name, fields, values = content
            return _record(name, tuple(fields))(*[_decode(v, storages, depth + 1) for v in values])
        case "dtype":
            return _dtype(content)
        case "device":
            return torch.device(content)
        case "handle":
            return Handle(int(content))
        case "fixture":
            return Fixture(str(content))
        case "opaque":
            return Opaque(str(content))
        case "tensor":
            return _decode_tensor(content, storages)
    raise CodecError(f"unknown tag {tag!r}")


def _decode_tensor(node: dict, storages: _DecodedStorages) -> Tensor:
    size, stride, offset = node["size"], node["stride"], node["offset"]
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in [*size, *stride, offset]):
        raise CodecError(f"impossible layout: size {size}, stride {stride}, offset {offset}")
    if math.prod(size) > MAX_ELEMENTS:
        raise CodecError(f"a tensor of {math.prod(size)} elements is over the limit of {MAX_ELEMENTS}")
    device, dtype = torch.device(node["device"]), _dtype(node["dtype"])
    storage = storages.get(node["storage"], device)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if math.prod(size) else -1
    if (last + 1) * dtype.itemsize > storage.nbytes():
        raise CodecError(f"a tensor that reaches element {last} of a storage of {storage.nbytes()} bytes")
    tensor = torch.empty(0, dtype=dtype, device=device).set_(storage, offset, size, stride)
    return tensor.requires_grad_() if node["grad"] and (dtype.is_floating_point or dtype.is_complex) else tensor


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise CodecError(f"no dtype {name!r}")
    return dtype


@functools.cache
def _record(name: str, fields: tuple[str, ...]) -> type:
    return namedtuple(name, fields)
