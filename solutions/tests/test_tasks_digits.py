"""Splits, permutations and confusion keep what they should; official formats are read from small files made here."""

import gzip
import hashlib
import io
import pickle
import re
import socket
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from solutions.tasks import digits
from solutions.tasks.digits import Images, Split


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def split() -> Split:
    return digits.small_digits()


def rows_of(images: Images) -> list[tuple]:
    """Each image with its label, as something that can be compared and counted."""
    return [(*pixels, label) for pixels, label in
            zip(images.pixels.flatten(1).tolist(), images.labels.tolist(), strict=True)]


# small digits

def test_the_split_has_every_image_once(split):
    assert split.train.pixels.shape == (1437, 1, 8, 8)
    assert split.test.pixels.shape == (360, 1, 8, 8)
    for images in split:
        assert images.pixels.dtype == torch.float32
        assert images.labels.dtype == torch.int64
        assert images.pixels.min() == 0
        assert images.pixels.max() == 1
    bunch = load_digits()
    everything = [(*pixels, label) for pixels, label in
                  zip((bunch.data / 16).tolist(), bunch.target.tolist(), strict=True)]
    assert sorted(rows_of(split.train) + rows_of(split.test)) == sorted(everything)
    assert not set(rows_of(split.train)) & set(rows_of(split.test))


def test_each_class_has_its_fifth_in_test(split):
    train, test = (images.labels.bincount(minlength=10) for images in split)
    assert ((train + test).double() / 5 - test).abs().max() < 1


def test_the_seed_decides_the_split_and_nothing_else_does(split):
    before = torch.get_rng_state()
    again, other = digits.small_digits(), digits.small_digits(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for images, same, different in zip(split, again, other, strict=True):
        assert torch.equal(images.pixels, same.pixels)
        assert torch.equal(images.labels, same.labels)
        assert not torch.equal(images.labels, different.labels)
    assert len(digits.small_digits(test_every=2).test.labels) == 899
    with pytest.raises(ValueError, match="test_every must be 2 or more, got 1"):
        digits.small_digits(test_every=1)


def test_digits_can_be_told_apart(split):
    means = torch.stack([split.train.pixels[split.train.labels == label].mean(0) for label in range(10)])
    nearest = torch.cdist(split.test.pixels.flatten(1), means.flatten(1)).argmin(-1)
    assert (nearest == split.test.labels).double().mean() > 0.85


# permuted pixels

def test_each_task_has_its_own_order_of_all_pixels():
    orders = digits.pixel_orders(11, 64, generator=seeded(0))
    assert orders.shape == (11, 64)
    assert torch.equal(orders.sort(-1).values, torch.arange(64).expand(11, 64))
    assert len(orders.unique(dim=0)) == 11
    assert torch.equal(orders, digits.pixel_orders(11, 64, generator=seeded(0)))
    assert not torch.equal(orders, digits.pixel_orders(11, 64, generator=seeded(1)))
    means = digits.pixel_orders(4000, 5, generator=seeded(2)).double().mean(0)
    assert (means - 2).abs().max() < 0.15                               # each position is as likely for each pixel


def test_train_and_test_are_permuted_alike_and_can_be_put_back(split):
    order = digits.pixel_orders(1, 64, generator=seeded(3))[0]
    made = digits.permute(split, order)
    for images, permuted in zip(split, made, strict=True):
        assert permuted.pixels.shape == images.pixels.shape
        assert torch.equal(permuted.labels, images.labels)
        for new, old in enumerate(order.tolist()):
            assert torch.equal(permuted.pixels.flatten(1)[:, new], images.pixels.flatten(1)[:, old])
    back = digits.permute(made, order.argsort())
    assert all(torch.equal(images.pixels, again.pixels) for images, again in zip(split, back, strict=True))


@pytest.mark.parametrize("order", [torch.arange(63), torch.zeros(64, dtype=torch.int64), torch.arange(1, 65),
                                   torch.arange(64)[None]])
def test_what_is_no_permutation_is_an_error(split, order):
    with pytest.raises(ValueError, match="order must be a permutation of 0 to 63"):
        digits.permute(split, order)


@pytest.mark.parametrize(("tasks", "pixels"), [(0, 4), (4, 0)])
def test_orders_of_nothing_are_errors(tasks, pixels):
    with pytest.raises(ValueError, match="must be a whole number, 1 or more, got 0"):
        digits.pixel_orders(tasks, pixels, generator=seeded(0))


# one class left out

def test_without_a_class_the_others_stay_as_they_are(split):
    for label in range(10):
        rest = digits.without_class(split.train, label)
        assert rows_of(rest) == [row for row in rows_of(split.train) if row[-1] != label]
    with pytest.raises(ValueError, match=r"one of several .* got 10"):
        digits.without_class(split.train, 10)
    alone = digits.select(split.train, split.train.labels == 3)
    with pytest.raises(ValueError, match=r"\[3\], got 3"):
        digits.without_class(alone, 3)


@pytest.mark.parametrize("classes", [1, 4, 10])
def test_confusion_is_what_counting_gives(classes):
    labels = torch.randint(classes, (50,), generator=seeded(4))
    predicted = torch.randint(classes, (2, 3, 50), generator=seeded(5))
    found = digits.confusion_matrix(predicted, labels, classes)
    assert found.shape == (2, 3, classes, classes)
    for which in np.ndindex(2, 3):
        pairs = list(zip(labels.tolist(), predicted[which].tolist(), strict=True))
        assert found[which].tolist() == [[pairs.count((true, said)) for said in range(classes)]
                                         for true in range(classes)]
    perfect = digits.confusion_matrix(labels, labels, classes)
    assert torch.equal(perfect, perfect.diagonal().diag())


def test_a_difference_says_what_each_class_is_now_taken_for():
    before = torch.tensor([[8, 2, 0], [0, 5, 0], [1, 0, 3]])
    after = torch.tensor([[1, 9, 0], [0, 5, 0], [0, 0, 4]])             # of 0, 7 more are taken for 1
    found = digits.confusion_difference(before, after)
    assert torch.allclose(found, torch.tensor([[-0.7, 0.7, 0], [0, 0, 0], [-0.25, 0, 0.25]], dtype=torch.float64))
    assert torch.equal(digits.confusion_difference(after, before), -found)
    assert not digits.confusion_difference(before, before).any()
    both = digits.confusion_difference(torch.stack((before, after)), torch.stack((after, before)))
    assert torch.equal(both, torch.stack((found, -found)))


def test_rows_of_a_difference_sum_to_zero_and_a_class_nobody_showed_has_none():
    labels = torch.randint(9, (200,), generator=seeded(6))              # no 9
    before, after = (digits.confusion_matrix(torch.randint(10, (200,), generator=seeded(seed)), labels)
                     for seed in (7, 8))
    found = digits.confusion_difference(before, after)
    assert found[:9].sum(-1).abs().max() < 1e-12
    assert found[:9].abs().max() <= 1
    assert found[9].isnan().all()
    assert not found[:9].isnan().any()


@pytest.mark.parametrize(("make", "says"), [
    (lambda: digits.confusion_matrix(torch.tensor([0, 1]), torch.tensor([0])), "predicted (..., images), got (1,) and"),
    (lambda: digits.confusion_matrix(torch.tensor([10]), torch.tensor([0])), "predicted must be int64 of 0 to 9, got"),
    (lambda: digits.confusion_matrix(torch.tensor([0]), torch.tensor([-1])), "labels must be int64 of 0 to 9"),
    (lambda: digits.confusion_matrix(torch.tensor([0.0]), torch.tensor([0])), "predicted must be int64"),
    (lambda: digits.confusion_difference(torch.eye(2), torch.eye(3)), "both be (..., classes, classes), got (2, 2)"),
    (lambda: digits.confusion_difference(torch.ones(2), torch.ones(2)), "both be (..., classes, classes), got (2,)"),
    (lambda: digits.confusion_difference(torch.eye(2), 2 * torch.eye(2)), "must count the same images of each class"),
])
def test_what_cannot_be_confused_is_an_error(make, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        make()


# MNIST, from small files in the official format, and a closed port in place of the official server

def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def random_bytes(seed: int, *shape: int, most: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(most, size=shape, dtype=np.uint8)


PIXELS = {"train": random_bytes(0, 6, 28, 28), "test": random_bytes(1, 4, 28, 28)}
LABELS = {"train": random_bytes(2, 6, most=10), "test": random_bytes(3, 4, most=10)}


@pytest.fixture
def mnist(tmp_path) -> Path:
    """A folder in place of the official server."""
    folder = tmp_path / "server"
    folder.mkdir()
    for part, names in digits.MNIST_FILES.items():
        for name, values in zip(names, (PIXELS[part], LABELS[part]), strict=True):
            (folder / name).write_bytes(gzip.compress(idx(values)))
    return folder


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def checksums_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4), (1, 2, 1, 3)])
def test_an_idx_array_is_read_as_it_was_written(shape):
    values = random_bytes(4, *shape)
    assert np.array_equal(digits.read_idx(idx(values)), values)
    assert digits.read_idx(idx(values)).shape == shape


@pytest.mark.parametrize(("content", "says"), [
    (b"", "must begin as an IDX file"),
    (b"<html>", "must begin as an IDX file"),
    (idx(PIXELS["test"])[:-1], r"must be as long as its axes \(4, 28, 28\) say, got 3151"),
    (idx(PIXELS["test"]) + b"\0", r"must be as long as its axes \(4, 28, 28\) say"),
    (idx(PIXELS["test"])[:10], r"must be as long as its axes \(\) say, got 10"),
    (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", r"must hold unsigned bytes \(type 8\), got type 13"),
])
def test_what_is_no_idx_array_is_an_error(content, says):
    with pytest.raises(ValueError, match=f"here {says}"):
        digits.read_idx(content, "here")


def test_mnist_is_fetched_once_and_read(tmp_path, mnist, closed_port):
    folder = tmp_path / "data" / "mnist"
    found = digits.download_mnist(folder, url=mnist.as_uri())
    assert files_in(folder) == files_in(mnist) == found.sha256.keys()
    assert found.folder == folder
    assert found.sha256 == checksums_of(mnist)
    assert digits.download_mnist(folder, url=closed_port) == found      # asks nobody
    for part, images in digits.read_mnist(folder)._asdict().items():
        assert images.pixels.shape == (len(LABELS[part]), 1, 28, 28)
        assert images.pixels.dtype == torch.float32
        assert torch.equal((images.pixels[:, 0] * 255).round().to(torch.uint8), torch.tensor(PIXELS[part]))
        assert images.labels.tolist() == LABELS[part].tolist()
        assert images.pixels.max() <= 1


def test_a_checksum_that_nobody_recorded_is_pending_and_says_so(tmp_path, mnist):
    assert digits.MNIST_CHECKSUMS == digits.CIFAR10_CHECKSUMS == {}
    known = checksums_of(mnist)
    assert digits.download_mnist(tmp_path / "a", url=mnist.as_uri(), checksums=known).checksum == "verified"
    shouted = {name: sha256.upper() for name, sha256 in known.items()}
    assert digits.download_mnist(tmp_path / "a", url=mnist.as_uri(), checksums=shouted).checksum == "verified"
    missing = known.popitem()[0]
    some = digits.download_mnist(tmp_path / "b", url=mnist.as_uri(), checksums=known)
    assert some.checksum.startswith(f"pending: no checksum is recorded for {missing};")


def test_another_checksum_is_an_error_and_the_file_is_not_kept(tmp_path, mnist):
    name = digits.MNIST_FILES["train"][0]
    with pytest.raises(ValueError, match=r"has SHA-256 .*, expected 00ff; it was not kept"):
        digits.download_mnist(tmp_path / "data", url=mnist.as_uri(), checksums={name: "00ff"})
    assert not (tmp_path / "data").exists()
    digits.download_mnist(tmp_path / "data", url=mnist.as_uri())
    with pytest.raises(ValueError, match=rf"data.*{name} has SHA-256 .*, expected 00ff; remove it to fetch another"):
        digits.download_mnist(tmp_path / "data", url=mnist.as_uri(), checksums={name: "00ff"})
    assert name in files_in(tmp_path / "data")


def test_a_damaged_file_is_an_error_and_is_not_kept(tmp_path, mnist):
    images, labels = digits.MNIST_FILES["train"]
    for content, says in ((b"<html>sign in</html>", "is not a whole gzip file"),
                          (gzip.compress(idx(PIXELS["train"]))[:-9], "is not a whole gzip file"),
                          (gzip.compress(idx(PIXELS["train"])[:-1]), "must be as long as"),
                          (gzip.compress(idx(PIXELS["train"])), "must have 1 axes")):
        (mnist / labels).write_bytes(content)
        with pytest.raises(ValueError, match=f"{labels} {says}"):
            digits.download_mnist(tmp_path / "data", url=mnist.as_uri())
        assert files_in(tmp_path / "data") == {images}                  # what was good before stays


@pytest.mark.parametrize(("labels", "says"), [
    (random_bytes(5, 5, most=10), "a label of 0 to 9 for each of 6 images, got 5"),
    (np.full(6, 10, np.uint8), "a label of 0 to 9 for each of 6 images, got 6 of up to 10")])
def test_labels_that_do_not_belong_to_the_images_are_an_error(mnist, labels, says):
    (mnist / digits.MNIST_FILES["train"][1]).write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(ValueError, match=says):
        digits.read_mnist(mnist)


def test_without_a_network_the_error_says_what_to_do(tmp_path, closed_port):
    for fetch, name in ((digits.download_mnist, "train-images-idx3-ubyte.gz"),
                        (digits.download_cifar10, digits.CIFAR10_ARCHIVE)):
        says = rf"could not fetch .* put a copy of {name} into .*data and call again, or use small_digits"
        with pytest.raises(ConnectionError, match=says):
            fetch(tmp_path / "data", url=closed_port, timeout=5)
    assert not (tmp_path / "data").exists()
    with pytest.raises(FileNotFoundError):
        digits.read_mnist(tmp_path)
    with pytest.raises(FileNotFoundError):
        digits.read_cifar10(tmp_path)


# CIFAR-10

RECORDS = {name: np.concatenate((random_bytes(at, 2, 1, most=10), random_bytes(at + 10, 2, 3072)), 1)
           for at, name in enumerate((*digits.CIFAR10_FILES["train"], *digits.CIFAR10_FILES["test"]))}


def cifar10(records=RECORDS, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, values in {"readme.html": b"<html>", "../outside.bin": b"no", **records}.items():
            content = bytes(values)
            member = tarfile.TarInfo(f"{prefix}{digits.CIFAR10_FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"{digits.CIFAR10_FOLDER}/link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return buffer.getvalue()


@pytest.mark.parametrize("prefix", ["", "./"])
def test_cifar10_is_fetched_once_and_read_without_unpacking(tmp_path, closed_port, prefix):
    (tmp_path / "server.tar.gz").write_bytes(cifar10(prefix=prefix))
    folder = tmp_path / "data"
    found = digits.download_cifar10(folder, url=(tmp_path / "server.tar.gz").as_uri())
    assert found.checksum.startswith(f"pending: no checksum is recorded for {digits.CIFAR10_ARCHIVE};")
    assert digits.download_cifar10(folder, url=closed_port) == found
    made = digits.read_cifar10(folder)
    assert files_in(folder) == {digits.CIFAR10_ARCHIVE}
    assert made.train.pixels.shape == (10, 3, 32, 32)
    assert made.test.pixels.shape == (2, 3, 32, 32)
    for part, images in made._asdict().items():
        records = np.concatenate([RECORDS[name] for name in digits.CIFAR10_FILES[part]]).tolist()
        for record, pixels, label in zip(records, (images.pixels * 255).round().int(), images.labels, strict=True):
            assert label == record[0]
            for channel, row, column in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 31, 30)):
                assert pixels[channel, row, column] == record[1 + 1024 * channel + 32 * row + column]


@pytest.mark.parametrize(("content", "says"), [
    (b"<html>sign in</html>", "is not a whole tar.gz archive"),
    (cifar10()[:-40], "is not a whole tar.gz archive"),
    (b"", "is not a whole tar.gz archive"),
    (cifar10({}), "must have cifar-10-batches-bin/data_batch_1.bin with records of 3073 bytes, got 0"),
    (cifar10({**RECORDS, "test_batch.bin": RECORDS["test_batch.bin"].tobytes()[:-1]}),
     "must have cifar-10-batches-bin/test_batch.bin with records of 3073 bytes, got 6145"),
    (cifar10({**RECORDS, "data_batch_2.bin": b"\x0a" + bytes(3072)}), "must have labels of 0 to 9, got 10"),
])
def test_what_is_no_such_archive_is_an_error_and_leaves_nothing(tmp_path, content, says):
    (tmp_path / "server.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"server\.tar\.gz {says}"):
        digits.download_cifar10(tmp_path / "data", url=(tmp_path / "server.tar.gz").as_uri())
    assert not (tmp_path / "data").exists()


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path):
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    (tmp_path / "python.tar.gz").write_bytes(cifar10({name.removesuffix(".bin"): trap for name in RECORDS}))
    (tmp_path / "padded.tar.gz").write_bytes(cifar10(dict.fromkeys(RECORDS, trap + bytes(3073 - len(trap)))))
    for name in ("python", "padded"):
        with pytest.raises(ValueError, match="must have"):
            digits.download_cifar10(tmp_path / "data", url=(tmp_path / f"{name}.tar.gz").as_uri())
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)                                                  # the trap works
    assert (tmp_path / "sprung").exists()
