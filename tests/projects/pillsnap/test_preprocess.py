import hashlib
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError

import cv2
import numpy as np
import pytest
from PIL import Image

from projects.pillsnap.gateway import GatewayLimits, decode_photo
from projects.pillsnap.preprocess import VERSION, PreprocessError, UnifiedPreprocessor
from tests.fabricate.pill_photos import GOLDEN, golden_files, kinds_of_images, natural

SMALL = UnifiedPreprocessor(size_px=64)

# Golden constants: SHA-256 of the float32 bytes, 16 digits. They change with `preprocess.VERSION` and never else.
GOLDEN_DIGESTS = {
    "grey_16_bit.png": ("1bdf330cc06aade8", "447963fa81d4ebf6"),
    "natural.png": ("f641aad1e6485a60", "b874ff40c3e2f5c6"),
    "network_size.png": ("e3cf8e313db9a8a1", "c8c6151e6f7b80e2"),
    "transparent.png": ("34331c2a8ea85e97", "3fba32a015e01346"),
    "upright_by_exif.png": ("e6a9c6442090196e", "6944095a9d859e17"),
}
DIGEST_OF_THE_DEFAULT = "0d00855afe30f28d2d2133003191b6a81becc10a4ce3b9fd4836f23d12a160f4"


def reference(image, preprocessor):
    """The textbook form: OpenCV and float64, one image, nothing reused."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    photo = Image.fromarray(image).crop((left, top, left + side, top + side))
    square = np.array(photo.resize((preprocessor.size_px,) * 2, Image.Resampling.BILINEAR))
    if preprocessor.clahe:
        lab = cv2.cvtColor(square, cv2.COLOR_RGB2LAB)
        clahe = cv2.createCLAHE(preprocessor.clip_limit, (preprocessor.grid, preprocessor.grid))
        lab[..., 0] = clahe.apply(lab[..., 0])
        square = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    planes = (square / 255.0 - np.array(preprocessor.mean)) / np.array(preprocessor.std)
    return planes.transpose(2, 0, 1).astype(np.float32)


@pytest.mark.parametrize("clahe", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (65, 64), (200, 131), (31, 90), (1, 1)])
def test_it_equals_the_textbook_form_to_the_bit(clahe, size):
    preprocessor = UnifiedPreprocessor(size_px=64, clahe=clahe, clip_limit=3.0)
    image = natural(*size)
    planes = preprocessor(image)
    assert planes.dtype == np.float32
    assert planes.flags.c_contiguous
    assert np.array_equal(planes, reference(image, preprocessor))


@pytest.mark.parametrize("name", ["black", "white", "red", "gradients", "noise", "saturated noise", "pill on black"])
def test_extreme_images_too(name):
    image = dict(kinds_of_images(64))[name]
    assert np.array_equal(SMALL(image), reference(image, SMALL))


def test_values_by_hand():
    planes = UnifiedPreprocessor(size_px=16, clahe=False)(np.full((16, 16, 3), (255, 0, 51), np.uint8))
    assert planes[:, 0, 0] == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], rel=1e-7)
    assert (planes == planes[:, :1, :1]).all()


def test_the_centre_square_lies_nearer_the_origin():
    preprocessor = UnifiedPreprocessor(size_px=16, clahe=False)
    wide = np.zeros((16, 19, 3), np.uint8)
    wide[:, 1:17] = 200
    assert (preprocessor.square(wide) == 200).all()
    assert (preprocessor.square(wide.swapaxes(0, 1)) == 200).all()


def test_square_leaves_an_image_of_the_right_size_alone():
    image = natural(64, 64)
    assert np.shares_memory(SMALL.square(image), image)
    assert np.array_equal(SMALL(SMALL.square(natural(200, 131))), SMALL(natural(200, 131)))


def test_shrinking_averages():
    """A checkerboard of single pixels becomes grey, where plain interpolation would alias."""
    board = np.indices((256, 256)).sum(axis=0)[..., None] % 2 * np.full(3, 255)
    small = UnifiedPreprocessor(size_px=32).square(board.astype(np.uint8))
    assert np.abs(small.astype(int) - 127).max() <= 1


def test_a_batch_is_its_images():
    images = np.stack([natural(90, 70, seed) for seed in range(5)])
    batch = SMALL(images)
    assert batch.shape == (5, 3, 64, 64)
    for image, planes in zip(images, batch, strict=True):
        assert np.array_equal(SMALL(image), planes)
    assert SMALL(images[:0]).shape == (0, 3, 64, 64)


def test_threads_do_not_disturb_each_other():
    others = UnifiedPreprocessor(size_px=64, clip_limit=8.0, grid=4)
    images = [natural(80, 64 + seed % 3, seed) for seed in range(24)]
    expected = [(SMALL(image), others(image)) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = list(pool.map(lambda image: (SMALL(image), others(image)), images))
            for pair, wanted in zip(found, expected, strict=True):
                assert np.array_equal(pair[0], wanted[0])
                assert np.array_equal(pair[1], wanted[1])


def test_results_do_not_share_memory_and_inputs_stay():
    image = natural(64, 64)
    before = image.copy()
    first = SMALL(image)
    kept, enhanced = first.copy(), SMALL.enhance(image)
    kept_enhanced = enhanced.copy()
    SMALL(255 - image)
    SMALL.enhance(255 - image)
    assert np.array_equal(first, kept)
    assert np.array_equal(enhanced, kept_enhanced)
    assert np.array_equal(image, before)


def test_read_only_and_strided_images_are_taken():
    image = natural(64, 64)
    expected = SMALL(image)
    frozen = image.copy()
    frozen.setflags(write=False)
    assert np.array_equal(SMALL(frozen), expected)
    assert np.array_equal(SMALL(image[:, ::-1][:, ::-1]), expected)
    assert np.array_equal(SMALL(np.asfortranarray(image)), expected)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert np.array_equal(SMALL(image[:, ::-1]), SMALL(mirrored))


def test_the_parts_make_the_whole():
    image = natural(120, 100)
    assert np.array_equal(SMALL.normalise(SMALL.enhance(SMALL.square(image))), SMALL(image))
    off = UnifiedPreprocessor(size_px=64, clahe=False)
    assert np.array_equal(off.enhance(off.square(image)), off.square(image))
    assert not np.array_equal(SMALL(image), off(image))


@pytest.mark.parametrize("name", sorted(golden_files()))
def test_golden_files(name):
    content = (GOLDEN / name).read_bytes()
    limits = GatewayLimits(min_side_px=1)
    image = decode_photo(content, limits)
    assert np.array_equal(image, decode_photo(golden_files()[name], limits))
    planes = UnifiedPreprocessor(size_px=128)(image)
    plain = UnifiedPreprocessor(size_px=48, clahe=False)(image)
    found = tuple(hashlib.sha256(result.tobytes()).hexdigest()[:16] for result in (planes, plain))
    assert VERSION == 1
    assert found == GOLDEN_DIGESTS[name]


def test_the_configuration_goes_there_and_back():
    preprocessor = UnifiedPreprocessor(size_px=96, clahe=False, clip_limit=3, grid=6, mean=[0.5] * 3, std=(0.2, 0.3, 1))
    config = json.loads(json.dumps(preprocessor.get_config()))
    again = UnifiedPreprocessor.from_config(config)
    assert again == preprocessor
    assert hash(again) == hash(preprocessor)
    assert again.digest() == preprocessor.digest()
    assert config["version"] == VERSION
    assert pickle.loads(pickle.dumps(preprocessor)) == preprocessor
    with pytest.raises(FrozenInstanceError):
        preprocessor.size_px = 64


def test_the_digest_is_that_of_the_configuration():
    assert UnifiedPreprocessor().digest() == DIGEST_OF_THE_DEFAULT
    others = [
        UnifiedPreprocessor(size_px=128), UnifiedPreprocessor(clahe=False), UnifiedPreprocessor(clip_limit=2.5),
        UnifiedPreprocessor(grid=4), UnifiedPreprocessor(mean=(0.4, 0.4, 0.4)), UnifiedPreprocessor(std=(1, 1, 1)),
    ]  # fmt: skip
    digests = {other.digest() for other in others} | {UnifiedPreprocessor().digest()}
    assert len(digests) == 7
    assert UnifiedPreprocessor(clip_limit=2).digest() == UnifiedPreprocessor(clip_limit=2.0).digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "preprocessing version is 2, this code does 1 only"),
        ({"resize": "cubic"}, "preprocessing resize is 'cubic', this code does 'pillow_bilinear_antialias' only"),
        ({"gamma": 1}, "preprocessing key gamma is unknown; the keys are version, crop, resize, contrast, size_px"),
        ({"size_px": 100}, "size_px is 100, allowed: a multiple of grid = 8 from 16 to 4096"),
    ],
)
def test_another_configuration_is_refused(change, message):
    with pytest.raises(PreprocessError, match=message):
        UnifiedPreprocessor.from_config({**UnifiedPreprocessor().get_config(), **change})


def test_an_incomplete_configuration_is_refused():
    config = UnifiedPreprocessor().get_config()
    del config["std"]
    with pytest.raises(PreprocessError, match="preprocessing key std is missing; the keys are version, "):
        UnifiedPreprocessor.from_config(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size_px": 8}, "size_px is 8, allowed: a multiple of grid = 8 from 16 to 4096"),
        ({"size_px": 64.0}, "size_px is 64.0, allowed: a multiple"),
        ({"size_px": True}, "size_px is True, allowed: a multiple"),
        ({"grid": 0}, "grid is 0, allowed: a whole number from 1 to 64"),
        ({"grid": 65}, "grid is 65, allowed: a whole number from 1 to 64"),
        ({"clahe": 1}, "clahe is 1, allowed: true or false"),
        ({"clip_limit": 0}, "clip_limit is 0.0, allowed: a number > 0"),
        ({"clip_limit": float("nan")}, "clip_limit is nan, allowed: a finite number"),
        ({"clip_limit": "2"}, "clip_limit is '2', allowed: a finite number"),
        ({"mean": (0.5, 0.5)}, r"mean is \(0.5, 0.5\), allowed: three numbers, for R, G and B"),
        ({"mean": (0.5, 0.5, float("inf"))}, "mean is inf, allowed: a finite number"),
        ({"std": (0.5, 0.5, 0)}, r"std is \(0.5, 0.5, 0.0\), allowed: three numbers > 0"),
    ],
)
def test_senseless_values_are_refused(values, message):
    with pytest.raises(PreprocessError, match=message):
        UnifiedPreprocessor(**values)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64, 3)), r"an image is float64 \(64, 64, 3\), allowed: uint8 \(H, W, 3\) with H, W >= 1"),
        (np.zeros((64, 64, 4), np.uint8), r"an image is uint8 \(64, 64, 4\), allowed"),
        (np.zeros((3, 64, 64), np.uint8), r"an image is uint8 \(3, 64, 64\), allowed"),
        (np.zeros((64, 64), np.uint8), r"an image is uint8 \(64, 64\), allowed: uint8 \(H, W, 3\) or \(N, H, W, 3\)"),
        (np.zeros((0, 64, 3), np.uint8), r"an image is uint8 \(0, 64, 3\), allowed"),
        ([[1]], r"an image is a list, allowed: uint8 \(H, W, 3\) or \(N, H, W, 3\)"),
    ],
)
def test_other_images_are_refused(image, message):
    with pytest.raises(PreprocessError, match=message):
        SMALL(image)


@pytest.mark.parametrize("part", [SMALL.enhance, SMALL.normalise])
def test_parts_refuse_other_sizes(part):
    with pytest.raises(PreprocessError, match=r"the square has shape \(32, 32, 3\), allowed: \(64, 64, 3\)"):
        part(np.zeros((32, 32, 3), np.uint8))


def test_it_needs_no_torch():
    """The server has none; a fresh interpreter shows what the two files import."""
    code = (
        "import sys, projects.pillsnap.preprocess, projects.pillsnap.gateway\n"
        "assert not {'torch', 'lightning', 'onnx'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
