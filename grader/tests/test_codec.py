"""The codec carries every value of the vocabulary unchanged, and reads nothing else."""

import io
import json
import struct
from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grader.sandbox import codec
from grader.sandbox.codec import CodecError, Fixture, Handle, Opaque, pack, unpack

Pair = namedtuple("Pair", "left right")

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.just(torch.float64) | st.just(torch.device("cpu")) | st.builds(Handle, st.integers(0, 9))
    | st.builds(Fixture, st.text(max_size=5)) | st.builds(Opaque, st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3) | st.builds(Pair, inner, inner),
    max_leaves=12)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(plain)
def test_plain_values_come_back_equal_and_of_the_same_type(value):
    back = unpack(pack(value))
    assert back == value
    assert type(back).__name__ == type(value).__name__
    if isinstance(value, tuple):
        assert getattr(back, "_fields", None) == getattr(value, "_fields", None)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), -0.0, 1e-320, 3])
def test_numbers_keep_every_bit(value):
    back = unpack(pack(value))
    assert type(back) is type(value)
    assert str(back) == str(value)
    assert str(unpack(pack(float("nan")))) == "nan"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8,
                                   torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_tensors_keep_dtype_shape_and_bits(dtype, shape):
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 9).to(dtype)
    back = unpack(pack(tensor))
    assert back.dtype == dtype
    assert back.shape == shape
    assert torch.equal(back, tensor)


def test_strides_offsets_and_requires_grad_survive():
    base = torch.arange(60.0).reshape(3, 4, 5)
    views = base.transpose(0, 2), base[1:, ::2, 3], base[:, :1].expand(3, 7, 5), torch.zeros(3, requires_grad=True)
    for tensor in views:
        back = unpack(pack(tensor))
        assert back.stride() == tensor.stride()
        assert back.storage_offset() == tensor.storage_offset()
        assert back.requires_grad == tensor.requires_grad
        assert torch.equal(back, tensor)
    assert base[:, :1].expand(3, 700, 5).untyped_storage().nbytes() < len(pack(base[:, :1].expand(3, 700, 5))) < 1000


def test_arguments_that_share_memory_share_it_again():
    base = torch.zeros(2, 3)
    left, right, other = unpack(pack((base, base[:, 1], torch.zeros(2, 3))))
    right += 1
    assert left[:, 1].tolist() == [1, 1]
    assert not other.any()


def test_a_small_view_of_a_large_buffer_travels_alone():
    assert len(pack(torch.zeros(1_000_000)[:3])) < 1000


def test_what_has_no_word_becomes_opaque_and_is_never_run():
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    for value in [Trap(), {1, 2}, lambda: 0, 10**2000, torch.zeros(2).to_sparse(), torch.empty(2, device="meta")]:
        assert isinstance(unpack(pack(value)), Opaque)
    nested = []
    nested.append(nested)
    assert len(pack(nested)) < 10_000


def message(header, blobs=b""):
    text = json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + blobs


TENSOR = {"dtype": "float32", "device": "cpu", "size": [2], "stride": [1], "offset": 0, "grad": False, "storage": 0}


@pytest.mark.parametrize("broken", [
    b"", b"\x00", b"\xff\xff\xff\xff{}", message([]), message({"body": 1}),
    message({"body": {"what": 1}, "storages": []}),
    message({"body": {"a": 1, "b": 2}, "storages": []}), message({"body": 1, "storages": [9]}, b"12"),
    message({"body": 1, "storages": [-1]}), message({"body": 1, "storages": []}, b"extra"),
    message({"body": {"dtype": "Tensor"}, "storages": []}), message({"body": {"dtype": "load"}, "storages": []}),
    message({"body": {"float": "x"}, "storages": []}), message({"body": {"dict": [[[], 1]]}, "storages": []}),
    message({"body": {"device": "moon"}, "storages": []}),
    message({"body": {"tensor": TENSOR}, "storages": []}),
    message({"body": {"tensor": TENSOR}, "storages": [4]}, b"1234"),                                # one float, not two
    message({"body": {"tensor": TENSOR | {"offset": 10**18}}, "storages": [8]}, b"12345678"),
    message({"body": {"tensor": TENSOR | {"stride": [-1]}}, "storages": [8]}, b"12345678"),
    message({"body": {"tensor": TENSOR | {"size": [2, 2]}}, "storages": [8]}, b"12345678"),
    message({"body": {"tensor": TENSOR | {"size": [10**12], "stride": [0]}}, "storages": [8]}, b"12345678"),
    message({"body": {"tensor": TENSOR | {"size": [True]}}, "storages": [8]}, b"12345678"),
    b"\x10\x00\x00\x00" + b"[" * 16, message({"body": eval("[" * 90 + "]" * 90), "storages": []}),
])
def test_a_forged_message_is_an_error_and_nothing_else(broken):
    with pytest.raises(CodecError):
        unpack(broken)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 10_000))
def test_noise_never_does_more_than_raise_codec_error(noise, place):
    good = pack((torch.zeros(2, 3), {"a": 1.5}, "text"))
    place %= len(good)
    for bad in (noise, good[:place] + noise + good[place + len(noise):]):
        try:
            unpack(bad)
        except CodecError:
            continue


def test_streams_cut_off_or_over_the_limit_are_errors():
    stream = io.BytesIO()
    codec.write_message(stream, b"hello")
    codec.write_message(stream, b"")
    stream.seek(0)
    assert codec.read_message(stream) == b"hello"
    assert codec.read_message(stream) == b""
    assert codec.read_message(stream) is None
    for cut in (b"\x01", struct.pack("<Q", 5) + b"hel", struct.pack("<Q", 2**63)):
        with pytest.raises(CodecError):
            codec.read_message(io.BytesIO(cut))
