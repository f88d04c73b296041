"""Pictures against a full decode by Pillow, and every way in which a file can be damaged."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from tailwire.kernels.image import decode_image, decode_small, placement, preprocess_image

RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth picture with edges, like a street and nothing like noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    layers = [80 + 60 * y + 40 * np.sin(6 * x + c) for c in range(3)]
    image = np.stack(layers, axis=-1)
    for _ in range(12):
        top, left = generator.integers(0, height), generator.integers(0, width)
        rows, columns = generator.integers(2, height // 3), generator.integers(2, width // 3)
        image[top : top + rows, left : left + columns] = generator.integers(0, 255, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def encoded(image: NDArray[np.uint8], kind: str = "JPEG", **options: object) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


JPEGS = {
    "baseline": encoded(picture(48, 64), quality=80),
    "progressive": encoded(picture(48, 64), quality=80, progressive=True),
    "restarts": encoded(picture(48, 64), quality=80, restart_marker_blocks=2),
    "grey": encoded(picture(48, 64)[:, :, 0], quality=80),
}


class TestDecode:
    @pytest.mark.parametrize("scale", [1, 2, 4, 8])
    def test_reduced_decoding_is_close_to_a_full_decode(self, scale: int) -> None:
        data = encoded(picture(360, 640), quality=95, subsampling=0)
        full = Image.open(BytesIO(data)).convert("RGB").reduce(scale)
        got = decode_image(data, full.height, full.width, *RAW)
        difference = np.abs(got - np.asarray(full, np.float32).transpose(2, 0, 1))
        assert difference.mean() < 2
        assert got.shape == (3, full.height, full.width)

    def test_a_file_and_its_pixels_give_the_same_input(self) -> None:
        image = picture(360, 640)
        mean, std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
        from_pixels = preprocess_image(image, 90, 160, mean, std)
        from_file = decode_image(encoded(image, "PNG"), 90, 160, mean, std)
        np.testing.assert_array_equal(from_file, from_pixels)
        from_jpeg = decode_image(encoded(image, quality=95), 90, 160, mean, std)
        assert np.abs(from_jpeg - from_pixels).mean() < 0.05

    def test_each_channel_has_its_own_normalisation(self) -> None:
        image = picture(20, 30)
        mean, std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
        got = preprocess_image(image, 20, 30, mean, std)
        wanted = (image.astype(np.float32) - np.asarray(mean)) / np.asarray(std)
        np.testing.assert_allclose(got, wanted.transpose(2, 0, 1), rtol=1e-6)

    @pytest.mark.parametrize(("height", "width"), [(40, 200), (100, 100), (30, 10), (300, 20)])
    def test_the_centre_is_kept_whatever_the_shape(self, height: int, width: int) -> None:
        image = np.zeros((90, 160, 3), np.uint8)
        image[40:50, 75:85] = 255
        got = preprocess_image(image, height, width, *RAW)[0]
        np.testing.assert_allclose(got, got[::-1, ::-1], atol=3)
        assert got[height // 2, width // 2] > 200 > 20 > got[0, 0]

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
    def test_other_pixel_formats_become_rgb(self, mode: str) -> None:
        image = Image.fromarray(picture(20, 30)).convert(mode)
        file = BytesIO()
        image.save(file, "PNG")
        got = decode_image(file.getvalue(), 20, 30, *RAW)
        np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")).transpose(2, 0, 1))

    def test_bytes_after_the_end_of_the_file_are_ignored(self) -> None:
        for data in (JPEGS["baseline"], encoded(picture(48, 64), "PNG")):
            wanted = decode_image(data, 24, 32, *RAW)
            got = decode_image(data + b"\0" * 100 + b"\xff\xd9", 24, 32, *RAW)
            np.testing.assert_array_equal(got, wanted)

    @pytest.mark.parametrize("grey", [127, 128, 129])
    def test_a_picture_that_is_all_mid_grey_is_no_damage(self, grey: int) -> None:
        data = encoded(np.full((48, 64, 3), grey, np.uint8), quality=90)
        assert (decode_image(data, 12, 16, *RAW) == grey).all()


class TestDamage:
    @pytest.mark.parametrize("kind", JPEGS)
    def test_a_jpeg_cut_anywhere_is_an_error(self, kind: str) -> None:
        data = JPEGS[kind]
        decode_image(data, 12, 16, *RAW)
        for length in range(len(data)):
            with pytest.raises(ValueError):
                decode_image(data[:length], 12, 16, *RAW)

    def test_also_where_someone_told_pillow_to_accept_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        for kind, data in JPEGS.items():
            with pytest.raises(ValueError, match=r"truncated|corrupt"):
                decode_image(data[: len(data) * 2 // 3], 12, 16, *RAW)
            decode_image(data, 12, 16, *RAW)
            assert kind

    @pytest.mark.parametrize("kind", ["baseline", "restarts", "grey"])
    @pytest.mark.parametrize("scale", [1, 2, 4, 8])
    def test_a_jpeg_with_a_hole_is_an_error(self, kind: str, scale: int) -> None:
        image = picture(240, 320)
        blocks = 5 if kind == "restarts" else 0
        data = encoded(
            image[:, :, 0] if kind == "grey" else image, quality=80, restart_marker_blocks=blocks
        )
        start = len(data) // 2
        with pytest.raises(ValueError, match="corrupt"):
            decode_image(data[:start] + data[start + 400 :], 240 // scale, 320 // scale, *RAW)

    def test_a_png_cut_anywhere_is_an_error(self) -> None:
        data = encoded(picture(24, 32), "PNG")
        for length in range(len(data)):
            with pytest.raises(ValueError):
                decode_image(data[:length], 12, 16, *RAW)

    def test_a_png_with_any_byte_changed_is_an_error(self) -> None:
        data = encoded(picture(24, 32), "PNG")
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 0x10
            with pytest.raises(ValueError):
                decode_image(bytes(changed), 12, 16, *RAW)

    @given(st.sampled_from(sorted(JPEGS)), st.integers(0, 10_000), st.binary(max_size=8))
    @settings(max_examples=150, deadline=None)
    def test_a_changed_jpeg_gives_a_picture_or_a_value_error(
        self, kind: str, position: int, content: bytes
    ) -> None:
        data = JPEGS[kind]
        position %= len(data)
        changed = data[:position] + content + data[position + len(content) :]
        try:
            assert decode_image(changed, 12, 16, *RAW).shape == (3, 12, 16)
        except ValueError as error:
            assert str(error)

    @pytest.mark.parametrize("data", [b"", b"\xff", b"GIF89a" + b"\0" * 50, b"\xff\xd8\xff\xd9"])
    def test_other_bytes_are_an_error(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            decode_image(data, 12, 16, *RAW)

    def test_sixteen_bit_pictures_are_refused(self) -> None:
        data = encoded(np.full((20, 30), 40_000, np.uint16), "PNG")  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="mode I;16"):
            decode_image(data, 20, 30, *RAW)


class TestBombs:
    def test_a_png_that_claims_a_huge_size_is_refused_before_decoding(self) -> None:
        def chunk(kind: bytes, content: bytes) -> bytes:
            crc = zlib.crc32(kind + content)
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        rows = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")
        with pytest.raises(ValueError):
            decode_image(bomb, 12, 16, *RAW)

    def test_a_jpeg_that_claims_a_huge_size_is_refused_before_decoding(self) -> None:
        data = bytearray(JPEGS["baseline"])
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", 9000, 9000)
        with pytest.raises(ValueError, match="pixels"):
            decode_image(bytes(data), 12, 16, *RAW)

    def test_the_limit_is_the_callers(self) -> None:
        with pytest.raises(ValueError, match="3071 allowed"):
            decode_image(JPEGS["baseline"], 12, 16, *RAW, max_pixels=48 * 64 - 1)
        decode_image(JPEGS["baseline"], 12, 16, *RAW, max_pixels=48 * 64)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 30), np.uint8),
        np.zeros((20, 30, 4), np.uint8),
        np.zeros((3, 20, 30), np.uint8),
        np.zeros((20, 30, 3), np.float32),
        np.zeros((0, 30, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_picture_are_errors(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        preprocess_image(image, 10, 10, *RAW)


class TestPlacement:
    """A bright spot on black is found in the input where the placement says."""

    @pytest.mark.parametrize(
        ("size", "target"),
        [
            ((180, 320), (90, 160)),
            ((180, 320), (96, 160)),  # columns are cut off
            ((203, 351), (24, 64)),  # rows are cut off, decoded at 1/4 of odd sizes
            ((203, 351), (12, 40)),  # decoded at 1/8
            ((225, 401), (100, 128)),  # resized by no whole number
            ((60, 80), (96, 128)),  # enlarged
            ((97, 161), (97, 160)),  # a crop of whole pixels
        ],
    )
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "pixels"])
    def test_of_a_spot(self, size: tuple[int, int], target: tuple[int, int], kind: str) -> None:
        (rows, columns), (height, width) = size, target
        sigma = 2.0 * max(1.0, min(rows / height, columns / width))
        for u, v in ((columns * 0.5, rows * 0.5), (columns * 0.62, rows * 0.47)):
            y, x = np.mgrid[0:rows, 0:columns] + 0.5
            spot = 250 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
            image = np.repeat(np.round(spot).astype(np.uint8)[:, :, None], 3, axis=2)
            options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
            given = image if kind == "pixels" else encoded(image, kind, **options)
            make = preprocess_image if isinstance(given, np.ndarray) else decode_image
            weights = make(given, height, width, *RAW)[1].astype(np.float64)  # pyright: ignore[reportArgumentType]
            weights[weights < 5] = 0  # what JPEG adds around the spot
            y, x = np.mgrid[0:height, 0:width] + 0.5
            found = np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
            placed = placement(given, height, width)
            expected = (u - placed.left) * placed.scale_x, (v - placed.top) * placed.scale_y
            np.testing.assert_allclose(found, expected, atol=0.06)
            assert (placed.picture_width, placed.picture_height) == (columns, rows)

    @pytest.mark.parametrize("broken", [b"", b"\xff\xd8\xff", b"no picture"])
    def test_of_what_is_no_picture(self, broken: bytes) -> None:
        with pytest.raises(ValueError, match="header"):
            placement(broken, 8, 8)
        with pytest.raises(ValueError, match=r"\[4, 4\]"):
            placement(np.zeros((4, 4), np.uint8), 8, 8)


class TestDecodeSmall:
    @pytest.mark.parametrize(("asked", "got"), [((45, 80), 8), ((46, 81), 4), ((360, 640), 1)])
    def test_a_jpeg_comes_at_the_smallest_scale_that_covers(
        self, asked: tuple[int, int], got: int
    ) -> None:
        image = picture(360, 640)
        small = decode_small(encoded(image, quality=95, subsampling=0), *asked)
        expected = np.asarray(Image.fromarray(image).reduce(got), np.float32)
        assert small.dtype == np.uint8
        assert small.shape == expected.shape
        assert np.abs(small - expected).mean() < 2

    def test_a_png_comes_whole(self) -> None:
        image = picture(60, 80)
        np.testing.assert_array_equal(decode_small(encoded(image, "PNG"), 6, 8), image)

    @pytest.mark.parametrize("data", [b"", b"no picture", JPEGS["baseline"][:300]])
    def test_what_cannot_be_decoded_is_an_error(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="decoded"):
            decode_small(data, 12, 16)

    def test_the_limit_is_the_callers(self) -> None:
        with pytest.raises(ValueError, match="3071 allowed"):
            decode_small(JPEGS["baseline"], 12, 16, max_pixels=48 * 64 - 1)
