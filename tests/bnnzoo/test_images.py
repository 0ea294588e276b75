"""Images: the formats they come in, written small by other means than they are read by."""

import gzip
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from bnnzoo.datasets import cifar_10, imdb, load_dataset, mnist, svhn
from bnnzoo.datasets._idx import read_idx
from bnnzoo.errors import OptionError
from bnnzoo.registry import describe, list_names
from tests.bnnzoo._own_files import OwnFolder, refused, tar, without
from tests.bnnzoo._server import serving

OWN = Path(os.environ.get("BNNZOO_DATA", "nowhere")).expanduser()
RNG = np.random.default_rng(0)


@pytest.fixture
def own(tmp_path, monkeypatch):
    return OwnFolder(tmp_path, monkeypatch).put


def test_cards_name_their_inputs_and_downloads():
    images = ["cifar-10", "cifar-10-c", "fashion-mnist", "imdb", "mnist", "mnist-10k", "svhn"]
    assert list_names("datasets", source="download", download=True) == images
    files = [*mnist.FILES["mnist"].values(), *mnist.FILES["fashion-mnist"].values()]
    files += [*cifar_10.FILES.values(), *svhn.FILES.values(), imdb.FILE]
    assert len({f.path for f in files}) == len({f.sha256 for f in files}) == 13
    assert all(f.url.startswith("https://") and len(f.sha256) == 64 for f in files)
    assert "never quote" in describe("datasets", "mnist-10k").notes


# MNIST


def idx(array, kind=8):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def small_mnist(own, monkeypatch):
    def put(name="mnist", train=30, test=12, **content):
        arrays = {}
        for which, rows in (("train", train), ("t10k", test)):
            arrays[f"{which}-images"] = RNG.integers(0, 256, (rows, 28, 28))
            arrays[f"{which}-labels"] = np.arange(rows) % 10
        files = {
            part: own(file, content.get(part.replace("-", "_"), idx(arrays[part])))
            for part, file in mnist.FILES[name].items()
        }
        monkeypatch.setitem(mnist.FILES, name, files)
        return arrays

    return put


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_and_its_like(small_mnist, name):
    arrays = small_mnist(name)
    data = load_dataset(name)
    np.testing.assert_array_equal(data.x[..., 0], arrays["train-images"])
    np.testing.assert_array_equal(data.x_test[..., 0], arrays["t10k-images"])
    np.testing.assert_array_equal(data.y, arrays["train-labels"])
    np.testing.assert_array_equal(data.y_test, arrays["t10k-labels"])
    assert data.in_shape == (28, 28, 1)
    assert data.class_names[1] == ("1" if name == "mnist" else "Trouser")
    few = load_dataset(name, train_rows=15, test_rows=3, scale="none")
    np.testing.assert_array_equal(few.x, data.x[:15])
    np.testing.assert_array_equal(few.y_test, data.y_test[:3])
    assert load_dataset(name, **few.source).hash == few.hash
    refused(["data.train_rows = 31", "30 rows"], name, OptionError, train_rows=31)
    refused(["data.test_rows = 13", "12 rows"], name, OptionError, test_rows=13)


def test_mnist_10k_is_the_first_and_the_last_of_the_test_rows(small_mnist, monkeypatch):
    arrays = small_mnist(test=50)
    monkeypatch.setattr(mnist, "TRAIN_ROWS", 40)
    data = load_dataset("mnist-10k")
    np.testing.assert_array_equal(data.x[..., 0], arrays["t10k-images"][:40])
    np.testing.assert_array_equal(data.x_test[..., 0], arrays["t10k-images"][40:])


@pytest.mark.skipif(
    not (OWN / "mnist").is_dir(), reason="BNNZOO_DATA names no folder that holds mnist/"
)
def test_real_mnist_10k():
    data = load_dataset("mnist-10k")
    assert data.x.shape == (8000, 28, 28, 1)
    assert data.test_rows == 2000
    # The published counts of the 10,000 test digits.
    counts = np.bincount(np.concatenate([data.y, data.y_test]))
    np.testing.assert_array_equal(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert (data.x.min(), data.x.max()) == (0, 255)
    np.testing.assert_array_equal(data.y[:5], [7, 2, 1, 0, 4])


IMAGES = np.zeros((12, 28, 28))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip at all", ["cannot be unpacked"]),
        (idx(IMAGES)[:-30], ["cannot be unpacked"]),
        (idx(IMAGES, kind=13), ["no IDX file of bytes in 3 dimensions"]),
        (idx(IMAGES[0]), ["no IDX file of bytes in 3 dimensions"]),
        (gzip.compress(b"\0\0\10\3"), ["no IDX file of bytes in 3 dimensions"]),
        (gzip.compress(gzip.decompress(idx(IMAGES))[:-5]), ["9408 bytes and holds 9403"]),
        (gzip.compress(gzip.decompress(idx(IMAGES)) + b"x"), ["9408 bytes and holds more"]),
        (gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28)), ["more than is read"]),
        (idx(IMAGES[:, :20]), ["(20, 28) pixels, not (28, 28)"]),
        (idx(IMAGES[:11]), ["11 test images and 12 labels"]),
    ],
    ids=range(10),  # gzip writes the time into its bytes: two workers would name tests differently
)
def test_broken_idx_files_are_refused(small_mnist, content, words):
    small_mnist(t10k_images=content)
    refused(words, "mnist")


def test_a_label_of_no_class_is_refused(small_mnist):
    small_mnist(train_labels=idx(np.full(30, 10)))
    refused(["label 10 is not among"], "mnist")


def test_idx_keeps_every_byte(tmp_path):
    array = np.arange(256).reshape(4, 8, 8)
    (tmp_path / "a.gz").write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", 3), array)


def test_mnist_over_the_network(tmp_path, monkeypatch):
    """The whole way: a server, a download, the cache, the parser."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("BNNZOO_CACHE", str(tmp_path))
    for name in ("BNNZOO_DATA", "BNNZOO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    images, labels = RNG.integers(0, 256, (20, 28, 28)), np.arange(20) % 10
    with serving(idx(images)) as one, serving(idx(labels)) as other:
        files = {
            part: (one if part.endswith("images") else other).file(path=file.path)
            for part, file in mnist.FILES["mnist"].items()
        }
        monkeypatch.setitem(mnist.FILES, "mnist", files)
        data = load_dataset("mnist", train_rows=12)
        assert load_dataset("mnist", train_rows=12).hash == data.hash
    np.testing.assert_array_equal(data.x[..., 0], images[:12])
    np.testing.assert_array_equal(data.y_test, labels)
    assert len(one.asked) == len(other.asked) == 2  # training and test, each once
    assert (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").exists()


# CIFAR-10


def cifar_files(rows=4):
    """Batches as the binary version has them, and the images and labels in them."""
    files, images, labels = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n"}, [], []
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name in names:
        picture = RNG.integers(0, 256, (rows, 32, 32, 3)).astype(np.uint8)
        label = RNG.permutation(10)[:rows].astype(np.uint8)
        content = b""
        for image, number in zip(picture, label, strict=True):
            planes = (image[:, :, channel].tobytes() for channel in range(3))
            content += bytes([number]) + b"".join(planes)
        files[f"cifar-10-batches-bin/{name}.bin"] = content
        images.append(picture)
        labels.append(label)
    return files, images, labels


@pytest.fixture
def put_cifar(own, monkeypatch):
    def put(content, name="cifar-10"):
        monkeypatch.setitem(cifar_10.FILES, name, own(cifar_10.FILES[name], content))

    return put


def test_cifar_10(put_cifar):
    files, images, labels = cifar_files()
    # In another order than the batches are numbered in, as the published archive has them.
    put_cifar(tar(dict(reversed(files.items())), "w:gz"))
    data = load_dataset("cifar-10")
    np.testing.assert_array_equal(data.x, np.concatenate(images[:5]))
    np.testing.assert_array_equal(data.y, np.concatenate(labels[:5]))
    np.testing.assert_array_equal(data.x_test, images[5])
    np.testing.assert_array_equal(data.y_test, labels[5])
    assert data.class_names[3] == "cat"
    few = load_dataset("cifar-10", train_rows=6, test_rows=2)
    np.testing.assert_array_equal(few.x, data.x[:6])
    assert few.test_rows == 2


BATCHES = cifar_files()[0]
FIFTH = "cifar-10-batches-bin/data_batch_5.bin"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no archive", ["cannot be read as a tar archive"]),
        (tar(BATCHES, "w:gz")[:-2000], ["cannot be read as a tar archive"]),
        (tar(without(BATCHES, "batch_5")), [f"has no file '{FIFTH}'"]),
        (tar(BATCHES | {FIFTH: BATCHES[FIFTH][:-1]}), ["is not made of rows of 3073 bytes"]),
        (tar(BATCHES | {FIFTH: b""}), ["is not made of rows of 3073 bytes"]),
        (
            tar(without(BATCHES, "batch_5"), links=[(FIFTH, "/etc/passwd")]),
            [f"has no file '{FIFTH}'"],
        ),
        (tar({f"../../{k}": v for k, v in BATCHES.items()}), ["has no file"]),
    ],
    ids=["none", "cut", "missing", "short", "empty", "link", "outside"],
)
def test_broken_archives_are_refused(put_cifar, content, words):
    put_cifar(content)
    refused(words, "cifar-10")


def test_a_member_longer_than_it_may_be_is_not_read(put_cifar, monkeypatch):
    monkeypatch.setattr(cifar_10, "BATCH", 3)
    put_cifar(tar(BATCHES))
    refused(["has 12292 bytes, more than 9219"], "cifar-10")


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def small_cifar_10_c(put_cifar):
    def put(**changed):
        files, images, _ = cifar_files()
        put_cifar(tar(files, "w:gz"))
        damaged = RNG.integers(0, 256, (5 * 4, 32, 32, 3)).astype(np.uint8)
        labels = np.arange(20) % 10
        arrays = {"labels": labels, "fog": damaged, "snow": damaged[::-1]} | changed
        content = {
            f"CIFAR-10-C/{name}.npy": npy(a) if isinstance(a, np.ndarray) else a
            for name, a in arrays.items()
        }
        put_cifar(tar(content), "cifar-10-c")
        return np.concatenate(images[:5]), damaged, labels

    return put


def test_cifar_10_c(small_cifar_10_c):
    train, damaged, labels = small_cifar_10_c()
    for severity in (1, 3, 5):
        data = load_dataset("cifar-10-c", corruption="fog", severity=severity)
        rows = slice(4 * severity - 4, 4 * severity)
        np.testing.assert_array_equal(data.x, train)
        np.testing.assert_array_equal(data.x_test, damaged[rows])
        np.testing.assert_array_equal(data.y_test, labels[rows])
    other = load_dataset("cifar-10-c", corruption="snow", severity=5, test_rows=2)
    np.testing.assert_array_equal(other.x_test, damaged[::-1][16:18])
    refused(["has no file 'CIFAR-10-C/frost.npy'"], "cifar-10-c", corruption="frost")
    refused(["data.corruption = 'fogg'"], "cifar-10-c", OptionError, corruption="fogg")
    refused(["data.severity = 6"], "cifar-10-c", OptionError, severity=6)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fog": b"no array"}, ["fog.npy", "is no array"]),
        ({"fog": npy(np.array([{}] * 20))}, ["holds object values"]),
        ({"fog": np.zeros((20, 32, 32))}, ["holds float64 values of shape (20, 32, 32)"]),
        ({"fog": np.zeros((21, 32, 32, 3), np.uint8)}, ["shape (21, 32, 32, 3)"]),
        ({"fog": npy(np.zeros((20, 32, 32, 3), np.uint8))[:-10]}, ["ends before its row 20"]),
        ({"labels": np.zeros(15, int)}, ["4 test images and 3 labels"]),
    ],
)
def test_broken_arrays_are_refused(small_cifar_10_c, changed, words):
    small_cifar_10_c(**changed)
    refused(words, "cifar-10-c", corruption="fog", severity=5)


# SVHN


@pytest.fixture
def small_svhn(own, monkeypatch):
    def put(**variables):
        made = {}
        for which, rows in (("train", 12), ("test", 11)):
            made[which] = {
                "X": RNG.integers(0, 256, (32, 32, 3, rows)).astype(np.uint8),
                "y": (np.arange(rows) % 10 + 1)[:, None].astype(np.uint8),
            }
        broken = made["train"] | variables
        for which, content in (("train", broken), ("test", made["test"])):
            stream = io.BytesIO()
            savemat(stream, {k: v for k, v in content.items() if v is not None}, True, "5")
            file = own(svhn.FILES[which], stream.getvalue())
            monkeypatch.setitem(svhn.FILES, which, file)
        return made

    return put


def test_svhn(small_svhn):
    made = small_svhn()
    data = load_dataset("svhn")
    assert data.in_shape == (32, 32, 3)
    for row in (0, 7):
        np.testing.assert_array_equal(data.x[row], made["train"]["X"][..., row])
        np.testing.assert_array_equal(data.x_test[row], made["test"]["X"][..., row])
    np.testing.assert_array_equal(data.y, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2])  # 10 is 0
    assert load_dataset("svhn", train_rows=5).rows == 5


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"X": None}, ["has no variable 'X'"]),
        ({"X": np.zeros((32, 32, 3, 12))}, ["holds float64 images"]),
        ({"X": np.zeros((12, 32, 32, 3), np.uint8)}, ["shape (12, 32, 32, 3)"]),
        ({"y": np.ones((11, 1), np.uint8)}, ["labels of shape (11, 1) for 12 images"]),
    ],
)
def test_broken_svhn_files_are_refused(small_svhn, variables, words):
    small_svhn(**variables)
    refused(words, "svhn")


@pytest.mark.parametrize("cut", [None, 20_000])
def test_what_is_no_matlab_file_is_refused(small_svhn, own, monkeypatch, tmp_path, cut):
    small_svhn()
    content = b"no MATLAB" * 100
    if cut:
        content = (tmp_path / svhn.FILES["test"].path).read_bytes()[:cut]
    monkeypatch.setitem(svhn.FILES, "test", own(svhn.FILES["test"], content))
    refused(["cannot be read as a MATLAB file"], "svhn")
