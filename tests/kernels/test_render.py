"""How the `shapes` set is painted: surfaces, coverage, light and shadow."""

import cv2
import numpy as np
import pytest

from deepmac.samples.parts import part, polygon, rectangle
from deepmac.samples.render import Layer, Light, cover, frame, paint, silhouette
from deepmac.samples.textures import TEXTURES, Material, Noise

FROM_THE_LEFT = Light(direction=(-0.6, 0.0, 0.8), ambient=0.4, diffuse=0.6, shadow=0.5)
WHITE = Material(texture="plain", colours=np.ones((3, 3), np.float32))


@pytest.fixture(scope="module")
def noise():
    return Noise(np.random.default_rng(0))


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    v, u = np.mgrid[:side, :side].astype(np.float32)
    return u, v


def layer(*parts, height: float = 0.0) -> Layer:
    return Layer(list(parts), {"main": WHITE}, frame((0, 0), 0.0, 1.0), height)


@pytest.mark.parametrize("name", TEXTURES)
def test_every_texture_has_contrast_and_uses_both_halves_of_its_range(name, noise):
    tone = np.clip(TEXTURES[name](*grid(96), noise), 0, 1)
    assert tone.shape == (96, 96)
    assert np.isfinite(tone).all()
    assert tone.std() > 0.05
    assert tone.min() < 0.5 < tone.max()


def test_textures_differ_from_each_other(noise):
    tones = [np.clip(f(*grid(64), noise), 0, 1) for f in TEXTURES.values()]
    for k, a in enumerate(tones):
        for b in tones[:k]:
            assert abs(a - b).mean() > 0.05


def test_noise_repeats_without_a_seam(noise):
    u, v = grid(16)
    np.testing.assert_array_equal(noise.at(u, v), noise.at(u + 128, v - 128))
    line = np.arange(120, 136, 0.25, dtype=np.float32)[None]
    across = noise.at(line, np.zeros_like(line))
    assert np.abs(np.diff(across)).max() < 0.1


def test_a_material_shows_its_three_colours_at_its_three_tones(noise):
    colours = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 1]], np.float32)
    stripes = Material(texture="stripes", colours=colours)
    shown = stripes.colour(*grid(64), noise)
    assert shown.shape == (64, 64, 3)
    # Black to red to white: blue only where red is full.
    assert shown[..., 0].min() < 0.1
    assert shown[..., 2].max() > 0.9
    assert shown[shown[..., 2] > 0.1][:, 0].min() > 0.98


def test_a_rectangle_covers_its_pixels_and_a_hole_shows_the_ground():
    ring = part(rectangle(2, 3, 9, 9), holes=[rectangle(4, 5, 7, 7)])
    patch = cover(ring, 12, 12)
    assert patch is not None
    canvas = np.zeros((12, 12), np.uint8)
    canvas[patch.window] = patch.coverage
    assert (
        canvas[3:10, 2:10] >= 128
    ).sum() == 7 * 8 - 3 * 4  # corners are whole pixels
    assert canvas[6, 5] == 0
    assert canvas[3, 2] >= 128 > canvas[2, 2]


def test_what_lies_outside_covers_nothing():
    far = layer(part(rectangle(30, 30, 40, 40)))
    assert silhouette(far, 20, 20) is None
    half = silhouette(layer(part(rectangle(-10, 4, 5, 9))), 20, 20)
    assert half is not None
    assert half.left == 0
    assert (half.coverage[:, 0] == 255).any()


def test_a_round_part_is_brighter_towards_the_lamp(noise):
    picture = np.zeros((64, 64, 3), np.float32)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    disc = polygon(
        *zip(32 + 20 * np.cos(angles), 32 + 20 * np.sin(angles), strict=True)
    )
    paint(picture, layer(part(disc)), FROM_THE_LEFT, noise)
    grey = picture.mean(axis=2)
    assert grey[24:40, 16:24].mean() > 1.3 * grey[24:40, 40:48].mean()
    assert grey[:8].max() == 0


def test_a_shadow_falls_away_from_the_lamp(noise):
    picture = np.ones((64, 64, 3), np.float32)
    high = layer(part(rectangle(24, 24, 40, 40)), height=8.0)
    paint(picture, high, FROM_THE_LEFT, noise)
    grey = picture.mean(axis=2)
    assert grey[32, 44] < 0.8
    assert grey[32, 18] > 0.97


def test_a_part_cut_by_the_frame_has_no_edge_there(noise):
    picture = np.zeros((40, 40, 3), np.float32)
    sheet = part(rectangle(-20, -20, 60, 60), roundness=0)
    paint(picture, layer(sheet), FROM_THE_LEFT, noise)
    smooth = cv2.blur(picture.mean(axis=2), (5, 5))
    assert smooth.std() < 0.01


def test_surface_coordinates_turn_with_the_object():
    matrix = frame((10.0, 20.0), np.pi / 2, 2.0)
    # Two pixels below the centre is one unit to the right on a surface turned by a quarter.
    np.testing.assert_allclose(matrix @ (10, 22, 1), (1, 0), atol=1e-12)
