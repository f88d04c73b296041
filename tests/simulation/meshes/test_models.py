"""Every model: fills its box, is sound as a mesh, keeps its budget, is the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.simulation.meshes import MATERIALS, MODELS, Mesh, MeshKey, MeshLibrary, material_index
from tailwire.simulation.meshes.shading import FLAT, finished
from tailwire.simulation.meshes.shapes import Shaper, turned_mesh

# width, length, height of ordinary ones, and the triangles each may have
ORDINARY = {
    "car/sedan": ((1.85, 4.6, 1.47), 2650),
    "car/hatchback": ((1.8, 4.05, 1.52), 2650),
    "car/suv": ((1.96, 4.7, 1.75), 2650),
    "car/van": ((2.03, 5.1, 2.05), 2650),
    "car/pickup": ((2.0, 5.4, 1.88), 2650),
    "truck": ((2.5, 7.2, 3.2), 2600),
    "bus/city": ((2.85, 11.6, 3.3), 2500),
    "bus/bendy": ((2.9, 17.8, 3.35), 3300),
    "trailer": ((2.6, 11.8, 3.8), 2500),
    "construction": ((2.75, 7.2, 3.2), 2700),
    "motorcycle": ((0.78, 2.1, 1.65), 3200),
    "bicycle": ((0.6, 1.72, 1.7), 3200),
    "pedestrian/child": ((0.48, 0.5, 1.25), 1500),
    "pedestrian": ((0.67, 0.72, 1.74), 1500),
    "cone": ((0.41, 0.41, 0.8), 300),
    "barrier": ((2.3, 0.52, 1.0), 400),
    "building": ((24.0, 14.0, 13.6), 1600),
    "building/house": ((11.0, 9.0, 7.4), 1600),
    "tree": ((5.0, 5.0, 7.0), 700),
    "hedge": ((0.8, 4.0, 1.3), 300),
    "lamp": ((0.4, 2.4, 7.4), 300),
    "signal": ((0.4, 0.4, 3.4), 500),
    "sign": ((0.7, 0.12, 2.7), 400),
    "bench": ((1.7, 0.62, 0.82), 300),
    "bin": ((0.5, 0.5, 1.0), 300),
    "fence": ((0.1, 4.05, 1.2), 500),
    "bollard": ((0.16, 0.16, 0.9), 200),
    "shelter": ((4.0, 1.6, 2.5), 400),
}
POSED = [(model, pose) for model, poses in MODELS.items() for pose in ("", *poses)]
# Models of which no part may be inside out: closed all over.
CLOSED = [
    model for model in MODELS if model.split("/")[0] not in ("building", "tree", "hedge", "bus")
]


def ordinary(model: str) -> tuple[tuple[float, float, float], int]:
    return ORDINARY.get(model) or ORDINARY[model.split("/")[0]]


def made(model: str, pose: str = "", variant: int = 0) -> Mesh:
    return MeshLibrary().mesh(MeshKey(model, ordinary(model)[0], pose, variant))


def face_normals(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals by the order of the corners, and areas."""
    corners = mesh.positions[mesh.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(doubled, 1e-12)[:, None], doubled / 2


@pytest.mark.parametrize(("model", "pose"), POSED)
def test_a_mesh_fills_its_box(model: str, pose: str) -> None:
    (width, length, height), _ = ordinary(model)
    mesh = made(model, pose, 3)
    low, high = mesh.positions.min(0), mesh.positions.max(0)
    assert low[2] == pytest.approx(0, abs=1e-3)
    assert high[2] == pytest.approx(height, abs=1e-3)
    half = np.array([length, width]) / 2
    if model.startswith("pedestrian"):
        assert (low[:2] >= -half - 1e-3).all() and (high[:2] <= half + 1e-3).all()
        assert high[1] - low[1] > 0.5 * width  # a person, not a stick
    else:
        np.testing.assert_allclose(high[:2], half, atol=1e-3)
        np.testing.assert_allclose(low[:2], -half, atol=1e-3)


@pytest.mark.parametrize(("model", "pose"), POSED)
def test_a_mesh_is_sound(model: str, pose: str) -> None:
    mesh = made(model, pose, 1)
    count = len(mesh.positions)
    assert mesh.positions.dtype == mesh.normals.dtype == mesh.uvs.dtype == np.float32
    assert mesh.materials.dtype == np.uint8 and mesh.faces.dtype == np.int32
    assert mesh.normals.shape == (count, 3) and mesh.uvs.shape == (count, 2)
    assert mesh.materials.shape == (count,)
    assert np.isfinite(mesh.positions).all() and np.isfinite(mesh.uvs).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-4)
    assert mesh.faces.min() == 0 and mesh.faces.max() == count - 1
    assert len(np.unique(mesh.faces)) == count  # no corner that no triangle uses
    materials = mesh.materials[mesh.faces]
    assert (materials == materials[:, :1]).all()
    assert materials.max() < len(MATERIALS)
    facing, area = face_normals(mesh)
    mean = mesh.normals[mesh.faces].astype(np.float64).sum(1)
    alike = (facing * mean).sum(1) > 0
    assert area[alike].sum() > 0.999 * area.sum()
    assert len(mesh.faces) <= ordinary(model)[1]


@pytest.mark.parametrize("model", CLOSED)
def test_faces_look_outward(model: str) -> None:
    # The volume under closed skins is positive only if their faces are counter-clockwise, and
    # their areas, as vectors, cancel only if nothing is missing.
    mesh = made(model)
    corners = mesh.positions[mesh.faces].astype(np.float64)
    volume = (corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    width, length, height = ordinary(model)[0]
    assert volume > 0.001 * width * length * height
    facing, area = face_normals(mesh)
    assert np.abs((facing * area[:, None]).sum(0)).max() < 1e-3 * area.sum()


@pytest.mark.parametrize("model", list(MODELS))
def test_the_same_key_gives_the_same_mesh(model: str) -> None:
    first, second = made(model, variant=5), made(model, variant=5)
    for name in ("positions", "normals", "uvs", "materials", "faces"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(
    "model", ["truck/box", "pedestrian/adult", "building/plaster", "tree/round", "barrier/plastic"]
)
def test_variants_differ(model: str) -> None:
    looks = {made(model, variant=v).materials.tobytes() + made(model, variant=v).positions.tobytes()
             for v in range(8)}  # fmt: skip
    assert len(looks) > 1


def test_poses_of_a_walk_differ_and_a_rider_makes_a_cycle_another_thing() -> None:
    walk = [made("pedestrian/adult", f"walk{k}", 1) for k in range(8)]
    poses = [mesh.positions[mesh.faces].reshape(-1, 3) for mesh in walk]
    for k in range(8):
        assert np.abs(poses[k] - poses[k - 1]).max() > 0.03
    # The two halves of the cycle mirror each other: left and right take turns.
    reach = [np.sort(p[p[:, 2] < 0.1][:, 0])[[0, -1]] for p in poses]
    np.testing.assert_allclose(reach[2], reach[6], atol=0.02)
    assert reach[2][1] - reach[2][0] > reach[0][1] - reach[0][0]
    assert _worn(made("bicycle/standard", "rider"), "skin")
    assert not _worn(made("bicycle/standard"), "skin")


def _worn(mesh: Mesh, kind: str) -> set[str]:
    """Materials of a kind, e.g. `skin` and `skin_2`."""
    names = {MATERIALS[row].name for row in mesh.materials.tolist()}
    return {name for name in names if name.partition("_")[0] == kind}


def test_people_differ_in_skin_hair_and_trousers() -> None:
    crowd = [made("pedestrian/adult", "stand", variant) for variant in range(40)]
    for kind, least in (("skin", 5), ("trousers", 4), ("hair", 2)):
        assert len(set().union(*(_worn(mesh, kind) for mesh in crowd))) >= least
    assert all(len(_worn(mesh, "skin")) == 1 for mesh in crowd)


def test_some_workers_carry_something() -> None:
    bark = material_index("bark")
    carries = [
        bark in made("pedestrian/worker", "walk2", variant).materials for variant in range(12)
    ]
    assert 0 < sum(carries) < 12


def test_the_rear_half_of_a_bendy_bus_has_its_joint_in_front_and_a_back_behind() -> None:
    size = (2.9, 9.4, 3.35)
    front, rear = (MeshLibrary().mesh(MeshKey("bus/bendy", size, pose)) for pose in ("", "rear"))
    head, tail = material_index("headlight"), material_index("taillight")
    assert head in front.materials and tail not in front.materials
    assert tail in rear.materials and head not in rear.materials
    assert rear.positions[rear.materials == tail][:, 0].max() < -4
    # bellows: folds of rubber over most of the height, at the ends that meet
    rubber = material_index("dark_trim")
    for mesh, end in ((front, -1), (rear, 1)):
        joint = mesh.positions[:, 0] * end > 4.7 - 0.4
        folds = mesh.positions[joint & (mesh.materials == rubber)]
        assert np.ptp(folds[:, 2]) > 0.7 * 3.35
        assert not (joint & (mesh.materials == material_index("car_paint"))).any()


def test_a_pose_of_one_style_is_not_one_of_another() -> None:
    with pytest.raises(ConfigError, match="rear"):
        MeshLibrary().mesh(MeshKey("bus/city", (2.8, 11.0, 3.2), "rear"))


def test_crowns_have_gaps_and_are_painted() -> None:
    assert MATERIALS[material_index("foliage")].paint
    for model in ("tree/round", "tree/tall"):
        mesh = made(model, "", 2)
        corners = mesh.positions[mesh.faces][mesh.materials[mesh.faces[:, 0]]
                                            == material_index("foliage")]  # fmt: skip
        weights = np.random.default_rng(0).dirichlet((1, 1, 1), 300)
        spots = np.einsum("kc,fcd->fkd", weights, corners)[..., 1:].reshape(-1, 2)
        low, high = spots.min(0), spots.max(0)
        cells = np.clip(((spots - low) / (high - low) * 30).astype(int), 0, 29)
        seen = np.zeros((30, 30), bool)
        seen[cells[:, 0], cells[:, 1]] = True
        # an ellipse fills 0.785 of its rectangle; a crown is neither that solid nor a few twigs
        assert 0.4 < seen.mean() < 0.8


def test_a_signal_shows_its_pose() -> None:
    for pose in ("red", "amber", "green"):
        shown = {MATERIALS[row].name for row in made("signal/post", pose).materials}
        assert {name for name in shown if name.startswith("signal_")} == {f"signal_{pose}"}


@pytest.mark.parametrize("model", list(MODELS))
def test_coarse_meshes_are_small_and_fill_the_same_box(model: str) -> None:
    library = MeshLibrary()
    key = MeshKey(model, ordinary(model)[0], "", 2)
    fine, coarse = library.mesh(key), library.mesh(key, detail=1)
    if coarse is not fine:
        assert len(coarse.faces) <= min(400, len(fine.faces))
    np.testing.assert_allclose(coarse.positions.min(0), fine.positions.min(0), atol=1e-3)
    np.testing.assert_allclose(coarse.positions.max(0), fine.positions.max(0), atol=1e-3)
    materials = coarse.materials[coarse.faces]
    assert (materials == materials[:, :1]).all()
    assert set(coarse.materials) <= set(fine.materials)


def test_cars_and_people_have_coarse_meshes_of_about_the_same_outline() -> None:
    library = MeshLibrary()
    for model in ("car/sedan", "car/van", "pedestrian/adult"):
        key = MeshKey(model, ordinary(model)[0], "", 2)
        fine, coarse = library.mesh(key), library.mesh(key, detail=1)
        assert len(coarse.faces) < 0.4 * len(fine.faces)
        # Seen from the side: the shadow of all triangles, on a grid of 48 by 48 cells.
        shadows = []
        for mesh in (fine, coarse):
            corners = mesh.positions[mesh.faces][:, :, [0, 2]].astype(np.float64)
            weights = np.random.default_rng(0).dirichlet((1, 1, 1), 400)
            spots = np.einsum("kc,fcd->fkd", weights, corners).reshape(-1, 2)
            low, high = fine.positions.min(0)[[0, 2]], fine.positions.max(0)[[0, 2]]
            cells = np.clip(((spots - low) / (high - low) * 48).astype(int), 0, 47)
            shadow = np.zeros((48, 48), bool)
            shadow[cells[:, 0], cells[:, 1]] = True
            shadows.append(shadow)
        common = (shadows[0] & shadows[1]).sum() / (shadows[0] | shadows[1]).sum()
        assert common > 0.8, model


def test_what_lies_ahead_of_a_car_is_its_front() -> None:
    # Headlights in front, tail lights behind; doors of a bus on the right.
    mesh = made("car/sedan")
    x = mesh.positions[:, 0]
    assert x[mesh.materials == material_index("headlight")].min() > 1.5
    assert x[mesh.materials == material_index("taillight")].max() < -1.5
    bus = made("bus/city")
    chrome = bus.positions[bus.materials == material_index("chrome")]
    assert chrome[:, 1].max() < 0


def test_a_library_keeps_what_it_made() -> None:
    library = MeshLibrary()
    key = MeshKey("cone/standard", (0.4, 0.4, 0.7))
    assert library.mesh(key) is library.mesh(key)
    assert library.mesh(key, detail=1) is library.mesh(key, detail=1)


@pytest.mark.parametrize("model", ["spaceship", "car/limousine", "", "car", "../car/sedan"])
def test_unknown_models_are_named(model: str) -> None:
    with pytest.raises(ConfigError, match="car/sedan") as caught:
        MeshLibrary().mesh(MeshKey(model, (1, 1, 1)))
    assert repr(model) in caught.value.problem


def test_unknown_poses_sizes_and_details_are_refused() -> None:
    with pytest.raises(ConfigError, match="walk0"):
        MeshLibrary().mesh(MeshKey("pedestrian/adult", (0.7, 0.7, 1.7), "flying"))
    with pytest.raises(ConfigError, match="volume"):
        MeshLibrary().mesh(MeshKey("car/sedan", (1.8, 0.0, 1.5)))
    with pytest.raises(ConfigError, match="detail"):
        MeshLibrary().mesh(MeshKey("car/sedan", (1.8, 4.5, 1.5)), detail=2)


def test_flat_faces_have_coordinates_in_metres_along_the_surface() -> None:
    # A square tilted by 30 degrees: distances in u and v are those in space.
    slope = np.array([[0, 0, 0], [2, 0, 0], [2, 3 * np.cos(0.5), 3 * np.sin(0.5)],
                      [0, 3 * np.cos(0.5), 3 * np.sin(0.5)]])  # fmt: skip
    mesh = finished(
        slope,
        np.array([[0, 1, 2], [0, 2, 3]]),
        np.zeros(2, np.int64),
        np.full(2, np.cos(np.radians(FLAT))),
        np.full((4, 2), np.nan),
    )
    apart = np.linalg.norm(mesh.uvs[:, None] - mesh.uvs[None], axis=-1)
    expected = np.linalg.norm(mesh.positions[:, None] - mesh.positions[None], axis=-1)
    np.testing.assert_allclose(apart, expected, atol=1e-5)


def test_a_sphere_is_smooth_and_a_box_is_not() -> None:
    shaper = Shaper()
    shaper.ellipsoid((0, 0, 1), (1, 1, 1), "metal", 24, 11)
    ball = shaper.mesh((2, 2, 2))
    outward = (ball.positions - (0, 0, 1)) / np.linalg.norm(ball.positions - (0, 0, 1), axis=1)[
        :, None
    ]
    assert (ball.normals * outward).sum(1).min() > 0.98
    shaper = Shaper()
    shaper.box((0, 0, 0.5), (1, 1, 1), "metal")
    box = shaper.mesh((1, 1, 1))
    assert len(box.positions) == 24
    assert set(np.abs(box.normals).max(1)) == {1.0}


def test_a_quarter_turn_moves_the_front_to_the_left() -> None:
    mesh = turned_mesh(made("car/sedan"), 1)
    lamps = mesh.positions[mesh.materials == material_index("headlight")]
    assert lamps[:, 1].min() > 1.5
