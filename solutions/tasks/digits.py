"""Images to classify: scikit-learn's small digits, here without a network, and MNIST and CIFAR-10 for the full size.

Three experiments are made from them: the same images under several permutations of the pixels, one after the other;
training without one class; and the difference that makes to the confusion matrix. Thesis sections 3.2.3 and 3.4,
appendices B.3.6 and B.3.8.
"""

import gzip
import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from solutions.files import write_whole
from solutions.tasks.draw import permutations, require_sizes
from solutions.tasks.fetch import fetch

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist"     # a mirror: the author's own page is no longer reliable
MNIST_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
MNIST_CHECKSUMS: dict[str, str] = {}    # pending: nobody has recorded the files' SHA-256 for this course yet

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
CIFAR10_CHECKSUMS: dict[str, str] = {}  # pending, as for MNIST
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

IDX_BYTES = 0x08    # the code of unsigned bytes in an IDX file


class Images(NamedTuple):
    """Images and what they show.

    pixels  (images, channels, height, width), float32 in [0, 1]
    labels  (images), int64, from 0
    """

    pixels: Tensor
    labels: Tensor


class Split(NamedTuple):
    """Images to train on, and others to test on."""

    train: Images
    test: Images


class Download(NamedTuple):
    """What a download found.

    folder    holds the files
    sha256    of each file, by name
    checksum  "verified", or "pending: ..." as long as there is a file whose checksum has not been recorded
    """

    folder: Path
    sha256: dict[str, str]
    checksum: str


# small digits

def small_digits(*, seed: int = 0, test_every: int = 5) -> Split:
    """scikit-learn's 1797 digits of 8 x 8 pixels, one in `test_every` of each class for test: 1437 and 360 images.

    seed  decides which; the same seed always gives the same split

    They come with scikit-learn, so no network is needed. Train and test share their writers, 13 people, so that
    accuracy here says nothing about new handwriting. Raises ValueError on test_every under 2.
    """
    if test_every < 2:
        raise ValueError(f"test_every must be 2 or more, got {test_every}")
    from sklearn.datasets import load_digits  # slow to import, and needed here only

    bunch = load_digits()
    images = Images(torch.tensor(bunch.images[:, None] / 16, dtype=torch.float32),
                    torch.tensor(bunch.target, dtype=torch.int64))
    order = torch.randperm(len(images.labels), generator=Generator().manual_seed(seed))
    by_class = order[images.labels[order].argsort(stable=True)]         # random within each class
    for_test = torch.zeros(len(order), dtype=torch.bool)
    for_test[by_class[::test_every]] = True
    return Split(select(images, ~for_test), select(images, for_test))


def select(images: Images, rows: Tensor) -> Images:
    """Some of the images. rows: (images), bool, or (any), int64."""
    return Images(images.pixels[rows], images.labels[rows])


# permuted pixels

def pixel_orders(tasks: int, pixels: int, *, generator: Generator) -> Tensor:
    """A random order of the pixels for each task of a sequence.

    pixels   how many an image has, over all channels: 64 for small digits, 784 for MNIST
    returns  (tasks, pixels), int64: the old position of each new pixel

    The thesis takes 11 tasks. Raises ValueError on sizes under 1.
    """
    require_sizes(generator, tasks=tasks, pixels=pixels)
    return permutations(pixels, tasks, generator=generator).T.contiguous()


def permute(split: Split, order: Tensor) -> Split:
    """One task: the same images with their pixels in another order, the same for all of train and test.

    order  (pixels), int64: a permutation, such as a row of pixel_orders

    The shape stays, though neighbours are neighbours no more. Raises ValueError when order is not a permutation of
    the pixels.
    """
    shape = split.train.pixels.shape[1:]
    expected = torch.arange(prod(shape), device=order.device)
    if order.shape != expected.shape or not torch.equal(order.sort().values, expected):
        raise ValueError(f"order must be a permutation of 0 to {len(expected) - 1}, got {tuple(order.shape)} of "
                         f"{order.dtype}")
    return Split(*(Images(pixels.flatten(1)[:, order.to(pixels.device)].unflatten(1, shape), labels)
                   for pixels, labels in split))


# one class left out

def without_class(images: Images, label: int) -> Images:
    """All images but those of one class. Raises ValueError when none shows it, and when all do."""
    rest = images.labels != label
    if rest.all() or not rest.any():
        raise ValueError(f"label must be one of several that images show, {images.labels.unique().tolist()}, "
                         f"got {label}")
    return select(images, rest)


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int = 10) -> Tensor:
    """How many images of each class were taken for which.

    predicted  (..., images), int64 in 0..classes - 1
    labels     (images), int64 in 0..classes - 1
    returns    (..., classes, classes), int64: rows are what an image shows, columns what was said

    Raises ValueError on shapes that disagree and on other classes.
    """
    if labels.dim() != 1 or predicted.shape[-1:] != labels.shape:
        raise ValueError(f"labels must be (images) and predicted (..., images), got {tuple(labels.shape)} and "
                         f"{tuple(predicted.shape)}")
    for name, numbers in (("predicted", predicted), ("labels", labels)):
        if numbers.dtype != torch.int64 or ((numbers < 0) | (numbers >= classes)).any():
            raise ValueError(f"{name} must be int64 of 0 to {classes - 1}, got {numbers.unique().tolist()} of "
                             f"{numbers.dtype}")
    cells = labels * classes + predicted                                # (..., images)
    counts = torch.zeros(*cells.shape[:-1], classes * classes, dtype=torch.int64, device=cells.device)
    counts.scatter_add_(-1, cells, torch.ones_like(cells))
    return counts.unflatten(-1, (classes, classes))


def confusion_difference(before: Tensor, after: Tensor) -> Tensor:
    """By how much what is said about each class has changed, as a share of its images.

    before   (..., classes, classes): confusion_matrix with the mask of the full task
    after    the same images with another mask, such as one trained without a class
    returns  (..., classes, classes) in [-1, 1], float64: each row sums to 0; minus the diagonal is the drop in each
             class's accuracy, and a row's positive entries say what its images are now taken for

    A class without images has rows of nan. Raises ValueError when the two do not count the same images of each class.
    """
    if before.shape != after.shape or before.dim() < 2 or before.shape[-1] != before.shape[-2]:
        raise ValueError(f"before and after must both be (..., classes, classes), got {tuple(before.shape)} and "
                         f"{tuple(after.shape)}")
    images = before.sum(-1, keepdim=True)                               # (..., classes, 1)
    if not torch.equal(images, after.sum(-1, keepdim=True)):
        raise ValueError(f"before and after must count the same images of each class, got {images[..., 0].tolist()} "
                         f"and {after.sum(-1).tolist()}")
    return (after - before).double() / images


# MNIST

def download_mnist(
    folder: Path | str, *, url: str = MNIST_URL, checksums: Mapping[str, str] = MNIST_CHECKSUMS, timeout: float = 60.0
) -> Download:
    """Fetch the four files of MNIST, once.

    folder     gets the files as they are, or has them already, put there by hand
    url        of the folder that has them
    checksums  the SHA-256 of files by name, in hexadecimal; a file without one is taken as it is, and the result says
               so
    timeout    seconds without an answer before giving up

    A file is written whole, after it has been read and found good. Raises ConnectionError where the network does not
    give a file, ValueError when what came is no such file or has another checksum.
    """
    names = [name for files in MNIST_FILES.values() for name in files]
    return _download(Path(folder), {name: f"{url}/{name}" for name in names}, checksums, timeout,
                     lambda content, name, source: _idx_of_gzip(content, source, axes=3 if "images" in name else 1))


def read_mnist(folder: Path | str) -> Split:
    """Read the four files that download_mnist fetched: 60000 and 10000 images of 1 x 28 x 28 pixels.

    Raises OSError when a file is missing, ValueError when it is damaged or when images and labels do not belong
    together.
    """
    parts = []
    for files in MNIST_FILES.values():
        paths = [Path(folder, name) for name in files]
        pixels, labels = (_idx_of_gzip(path.read_bytes(), str(path), axes) for path, axes in
                          zip(paths, (3, 1), strict=True))
        if len(pixels) != len(labels) or (labels > 9).any():
            raise ValueError(f"{paths[1]} must have a label of 0 to 9 for each of {len(pixels)} images, got "
                             f"{len(labels)} of up to {labels.max(initial=0)}")
        parts.append(_images(pixels[:, None], labels))
    return Split(*parts)


def read_idx(content: bytes, source: str = "content") -> np.ndarray:
    """Read an array of bytes in the IDX format: 0, 0, the type, the number of axes; each axis; the values.

    source  what to call it in error messages

    Raises ValueError when it is not in this format, of another type than bytes, or not as long as it says.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(f"{source} must begin as an IDX file, with two zero bytes, got {content[:4]!r}")
    kind, axes = content[2:4]
    if kind != IDX_BYTES:
        raise ValueError(f"{source} must hold unsigned bytes (type {IDX_BYTES}), got type {kind}")
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", content[4:start]) if len(content) >= start else ()
    if len(content) < start or len(content) != start + prod(shape):
        raise ValueError(f"{source} must be as long as its axes {shape} say, got {len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _idx_of_gzip(content: bytes, source: str, axes: int) -> np.ndarray:
    try:
        plain = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise ValueError(f"{source} is not a whole gzip file: {problem}") from problem
    found = read_idx(plain, source)
    if found.ndim != axes:
        raise ValueError(f"{source} must have {axes} axes, got {found.shape}")
    return found


# CIFAR-10

def download_cifar10(
    folder: Path | str,
    *,
    url: str = CIFAR10_URL,
    checksums: Mapping[str, str] = CIFAR10_CHECKSUMS,
    timeout: float = 60.0,
) -> Download:
    """Fetch the archive of CIFAR-10, once: the binary version, for the Python version is a pickle, which runs code.

    url  of the archive; the other arguments and errors as in download_mnist
    """
    return _download(Path(folder), {CIFAR10_ARCHIVE: url}, checksums, timeout,
                     lambda content, name, source: _cifar10_parts(content, source))


def read_cifar10(folder: Path | str) -> Split:
    """Read the archive that download_cifar10 fetched: 50000 and 10000 images of 3 x 32 x 32 pixels.

    Nothing is unpacked to disk. Raises OSError when the archive is missing, ValueError when it is damaged.
    """
    path = Path(folder, CIFAR10_ARCHIVE)
    return Split(*(_images(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0])
                   for records in _cifar10_parts(path.read_bytes(), str(path))))


def _cifar10_parts(content: bytes, source: str) -> list[np.ndarray]:
    """The records of train and of test, (images, 3073) each: a label, then 32 x 32 reds, greens and blues."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar:
                if member.isfile():
                    found[member.name.removeprefix("./")] = tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise ValueError(f"{source} is not a whole tar.gz archive: {problem}") from problem
    parts = []
    for files in CIFAR10_FILES.values():
        batches = []
        for name in files:
            records = found.get(f"{CIFAR10_FOLDER}/{name}", b"")
            if not records or len(records) % 3073:
                raise ValueError(f"{source} must have {CIFAR10_FOLDER}/{name} with records of 3073 bytes, got "
                                 f"{len(records)} bytes")
            batches.append(np.frombuffer(records, np.uint8).reshape(-1, 3073))
        parts.append(np.concatenate(batches))
        if parts[-1][:, 0].max() > 9:
            raise ValueError(f"{source} must have labels of 0 to 9, got {parts[-1][:, 0].max()}")
    return parts


def _images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    return Images(torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)) / 255,
                  torch.from_numpy(labels.astype(np.int64)))


# both

def _download(
    folder: Path, urls: dict[str, str], checksums: Mapping[str, str], timeout: float,
    read: Callable[[bytes, str, str], object],
) -> Download:
    """Have each file in folder, its checksum compared; `read` raises ValueError on what is no such file.

    urls  where each file comes from, by name
    """
    sha256 = {}
    for name, url in urls.items():
        path = folder / name
        at_hand = path.exists()
        content = path.read_bytes() if at_hand else fetch(url, path, "small_digits, which needs none", timeout)
        source, sha256[name] = (str(path) if at_hand else url), hashlib.sha256(content).hexdigest()
        if name in checksums and sha256[name] != checksums[name].lower():
            then = "remove it to fetch another" if at_hand else "it was not kept"
            raise ValueError(f"{source} has SHA-256 {sha256[name]}, expected {checksums[name]}; {then}")
        read(content, name, source)
        if not at_hand:
            write_whole(path, content)
    unknown = ", ".join(name for name in urls if name not in checksums)
    pending = f"pending: no checksum is recorded for {unknown}; see sha256 for what these copies have"
    return Download(folder, sha256, pending if unknown else "verified")
