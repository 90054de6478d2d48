from __future__ import annotations

import math
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree, cKDTree

import sdfsrn.data.sources.pascal3d_release as release_module
from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.data.conventions import CAD_TO_WORLD
from sdfsrn.data.source import check_picture
from sdfsrn.data.sources.pascal3d import Pascal3DDataModule, Pascal3DSource, weak_perspective, window
from sdfsrn.data.sources.pascal3d_release import CLASSES, Pascal3DRelease, PascalRecord, Viewpoint, describe, projection
from sdfsrn.data.sources.shapenet import ShapeNetDataModule
from sdfsrn.meshes.geometry import sample_surface
from sdfsrn.meshes.io import read_mesh
from sdfsrn.runtime.files import npz_bytes

EXAMPLE = Viewpoint(220.893503, 4.948197, 8.335473, 5.405864, 1.0, 259.901125, 266.329463, 3000.0)
POINT = torch.tensor([[0.1, -0.4, 0.05]], dtype=torch.float64)


@pytest.fixture(scope="module")
def sources(pascal3d: pathlib.Path) -> dict[str, Pascal3DSource]:
    """The validation splits of all categories, prepared in one process with few points."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release_module, "NUM_POINTS", 4000)
        made = {}
        for category in CLASSES:
            release = Pascal3DRelease(str(pascal3d), category)
            assert release.prepare(num_workers=0) == {}
            made[category] = Pascal3DSource(release, "val")
    return made


@pytest.fixture
def chairs(pascal3d: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Two chairs for training and two for validation, small enough to spoil."""
    monkeypatch.setattr(release_module, "NUM_POINTS", 500)
    root = tmp_path / "release"
    for folder in ("Annotations/chair_imagenet", "Images/chair_imagenet", "CAD/chair", "Image_sets"):
        (root / folder).mkdir(parents=True)
    for split in ("train", "val"):
        names = (pascal3d / f"Image_sets/chair_imagenet_{split}.txt").read_text().split()[:2]
        (root / f"Image_sets/chair_imagenet_{split}.txt").write_text("\n".join(names))
        for name in names:
            shutil.copy(pascal3d / f"Annotations/chair_imagenet/{name}.mat", root / "Annotations/chair_imagenet")
            shutil.copy(pascal3d / f"Images/chair_imagenet/{name}.JPEG", root / "Images/chair_imagenet")
            for item in _objects(root / f"Annotations/chair_imagenet/{name}.mat"):
                shutil.copy(pascal3d / f"CAD/chair/{item['cad_index']:02d}.off", root / "CAD/chair")
    return root


def _objects(path: pathlib.Path) -> list[dict]:
    """A plain reading of an annotation's objects."""
    record = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["record"]
    fields = ("class", "bbox", "cad_index", "truncated", "occluded")
    return [
        {field: getattr(item, field) for field in fields} | {"viewpoint": vars(item.viewpoint)}
        for item in np.atleast_1d(record.objects)
    ]


def _annotate(root: pathlib.Path, name: str, **changes: float | str) -> None:
    """Write the image's first object only, with other values in its fields or its viewpoint's."""
    path = root / f"Annotations/chair_imagenet/{name}.mat"
    item = _objects(path)[0]
    viewpoint = {field: item["viewpoint"][field] for field in Viewpoint._fields}
    for field, value in changes.items():
        (viewpoint if field in viewpoint else item)[field] = value
    scipy.io.savemat(path, {"record": {"objects": item | {"viewpoint": viewpoint}}})


def _first(root: pathlib.Path, split: str) -> str:
    return (root / f"Image_sets/chair_imagenet_{split}.txt").read_text().split()[0]


def _pixels(points: torch.Tensor, record: PascalRecord, shape: tuple[int, ...]) -> np.ndarray:
    """(n, 2) x, y of CAD points in MATLAB's pixels."""
    camera = projection(record.viewpoint, *shape)
    screen = camera.screen(camera.project(points[None])[0])[0].numpy()
    return (screen + 1) / 2 * [shape[1], shape[0]] + 0.5


def test_projection_is_the_releases() -> None:
    """The worked example of project_3d.m."""
    record = PascalRecord("", 0, 1, EXAMPLE, (0, 0, 1, 1), False, False)
    assert np.allclose(_pixels(POINT, record, (375, 500)), [[349.610, 210.322]], atol=1e-3)
    origin = _pixels(torch.zeros(1, 3, dtype=torch.float64), record, (375, 500))
    assert np.allclose(origin, [[EXAMPLE.px, EXAMPLE.py]])


def test_weak_perspective_is_the_releases_without_depth() -> None:
    """The worked example, through the canonical frame and the crop."""
    left, top, side = 100.0, 50.0, 320.0
    camera = weak_perspective(EXAMPLE, left, top, side)
    world = (EXAMPLE.scale * 2 / side * POINT.numpy() @ CAD_TO_WORLD.T).astype(np.float32)
    screen = camera.screen(camera.project(torch.from_numpy(world))[0])[0].numpy()
    pixels = (screen + 1) / 2 * side + [left, top] + 0.5
    assert np.allclose(pixels, [355.620, 206.570], atol=2e-3)


def test_world_axes_are_those_of_the_other_data_sets() -> None:
    """Seen from the front (azimuth 0) the front is near, the object's up is up, and its right side is on our left."""
    camera = weak_perspective(Viewpoint(0, 0, 0, 5, 1, 32.5, 32.5, 3000), 0, 0, 64)
    rotation = camera.world_to_camera[:, :3]
    assert torch.allclose(rotation @ torch.tensor([0.0, 0.0, -1.0]), torch.tensor([0.0, 0.0, -1.0]), atol=1e-6)
    assert torch.allclose(rotation @ torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, -1.0, 0.0]), atol=1e-6)
    assert math.isclose(torch.det(rotation).item(), 1, abs_tol=1e-5)


def test_crop_follows_the_paper() -> None:
    """1.2 x the longer side; 3 x the height for cars; MATLAB's first pixel has its middle at (1, 1)."""
    left, top, side = window((11, 21, 111, 71), "chair")
    assert (left, top, side) == pytest.approx((60.5 - 60, 45.5 - 60, 120))
    left, top, side = window((11, 21, 111, 71), "car")
    assert (left, top, side) == pytest.approx((60.5 - 75, 45.5 - 75, 150))


@pytest.mark.parametrize("category", CLASSES)
def test_boxes_and_surface_agree_with_the_silhouettes(sources: dict[str, Pascal3DSource], category: str) -> None:
    """Boxes of the masks within 2 pixels of the annotation; 99.5 % of fresh points of the surface fall into the masks."""
    source = sources[category]
    assert len(source) >= 5
    for record, name in zip(source.records, source.names, strict=True):
        mask = np.asarray(Image.open(name))
        assert mask.shape[::-1] == Image.open(source.release.image(record)).size
        points, _ = sample_surface(read_mesh(source.release.model(record.cad_index)), 20_000, seed=7)
        x, y = np.floor(_pixels(torch.from_numpy(points), record, mask.shape) - 0.5).astype(int).T
        seen = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
        assert (mask[y[seen], x[seen]] > 0).mean() > 0.995
        if not record.truncated:
            rows, columns = np.nonzero(mask)
            box = [columns.min() + 0.5, rows.min() + 0.5, columns.max() + 1.5, rows.max() + 1.5]
            assert np.allclose(box, record.box, atol=2)


def test_silhouettes_agree_with_the_pixels(sources: dict[str, Pascal3DSource]) -> None:
    """Near the outline each pixel goes to the side whose colours it has: IoU above 0.97, and visibly less for wrong poses."""
    agreed, shifted = [], []
    for source in sources.values():
        for record, name in zip(source.records, source.names, strict=True):
            image = np.asarray(Image.open(source.release.image(record)).convert("RGB")).astype(float)
            mask = np.asarray(Image.open(name)) >= 128
            if record.occluded:
                continue
            agreed.append(_agreement(image, mask))
            shifted.append(_agreement(image, np.roll(mask, 3, 1)))
    assert np.median(agreed) > 0.985
    assert np.mean(np.array(agreed) > 0.97) >= 0.85  # thin struts have no colour of their own to compare with
    assert np.median(shifted) < 0.95


def _agreement(image: np.ndarray, mask: np.ndarray, band: float = 3.0) -> float:
    """IoU of a mask with what the colours within `band` pixels of its outline say, where they say anything."""
    inner, outer = distance_transform_edt(mask), distance_transform_edt(~mask)
    doubt = np.argwhere(((inner > 0) & (inner <= band)) | ((outer > 0) & (outer <= band)))
    difference = []
    for known in (inner > min(band, 0.6 * inner.max()), outer > band):
        place = np.argwhere(known)
        _, nearest = KDTree(place).query(doubt, k=8)
        color = image[tuple(place[nearest].transpose(2, 0, 1))]
        difference.append(np.linalg.norm(color - image[tuple(doubt.T)][:, None], axis=-1).min(-1))
    told = np.abs(difference[0] - difference[1]) > 25
    judged = mask.copy()
    judged[tuple(doubt[told].T)] = (difference[0] < difference[1])[told]
    return (judged & mask).sum() / (judged | mask).sum()


def test_normals_stand_on_the_surface_that_the_points_make_up(sources: dict[str, Pascal3DSource]) -> None:
    for source in sources.values():
        points, normals = source.points(0), source.normals(0)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
        near = points[cKDTree(points).query(points, 2)[1][:, 1]] - points
        along = np.abs((near * normals).sum(1)) / np.linalg.norm(near, axis=1).clip(1e-12)
        assert np.median(along) < 0.15  # a half if they stood anywhere
        assert len(source.normals(0)) == len(points)


def test_truth_lies_in_the_crops_silhouette(sources: dict[str, Pascal3DSource]) -> None:
    """Weak perspective is an approximation: most of the rescaled cloud, eq. (25), falls into the mask or the next pixel."""
    for source in sources.values():
        for index in range(len(source)):
            picture = source.picture(index)
            points = torch.from_numpy(source.points(index))
            screen = picture.camera.screen(picture.camera.project(points)[0]).numpy()
            x, y = np.floor((screen + 1) / 2 * 64).astype(int).T
            seen = (x >= 0) & (x < 64) & (y >= 0) & (y < 64)
            if source.records[index].truncated:
                continue
            near = distance_transform_edt(picture.alpha == 0) <= 1
            assert near[y[seen], x[seen]].mean() > 0.97


def test_batches_are_like_any_others(sources: dict[str, Pascal3DSource], balls: pathlib.Path) -> None:
    other = ShapeNetDataModule(str(balls), "airplane").dataset("val").views([0])
    for source in sources.values():
        views = PictureDataset(source).views(range(len(source)))
        assert views._fields == other._fields
        assert views.image.shape == (len(source), 3, 64, 64)
        assert torch.equal(views.image[:, :, 0, 0], torch.ones(len(source), 3))  # white behind the object
        for index in range(len(source)):
            check_picture(source.picture(index), source.names[index])


def test_several_objects_and_counts(sources: dict[str, Pascal3DSource], pascal3d: pathlib.Path) -> None:
    """Against a plain reading of the annotations."""
    for source in sources.values():
        release = source.release
        names, objects = (pascal3d / f"Image_sets/{release.kind}_imagenet_val.txt").read_text().split(), []
        for name in names:
            items = _objects(release.annotations / f"{name}.mat")
            fine = [i for i, item in enumerate(items) if item["class"] == release.kind and item["viewpoint"]["distance"] > 0]
            objects += [f"{name}_{i}" for i in fine]
        assert [record.name for record in source.records] == objects
        assert source.counts["objects"] == len(objects)
        assert source.counts["images"] == len(names)


def test_training_needs_no_clouds(chairs: pathlib.Path) -> None:
    module = Pascal3DDataModule(str(chairs), "chair", num_rays=16)
    module.prepare(0)
    shutil.rmtree(module.release.cache / "pointclouds")
    assert module.dataset("train").views([0]).points.shape == (1, 0, 3)


def test_the_release_stays_untouched_and_nothing_is_made_twice(chairs: pathlib.Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in chairs.rglob("*")}
    release = Pascal3DRelease(str(chairs), "chair")
    assert not release.prepared()
    assert release.prepare(0) == {}
    assert release.prepared()
    assert {path: path.stat().st_mtime_ns for path in chairs.rglob("*")} == before
    made = {path: path.stat().st_mtime_ns for path in release.cache.rglob("*.*")}
    assert release.prepare(0) == {}
    assert {path: path.stat().st_mtime_ns for path in release.cache.rglob("*.*")} == made


def test_masks_follow_a_corrected_annotation(chairs: pathlib.Path) -> None:
    release = Pascal3DRelease(str(chairs), "chair")
    release.prepare(0)
    name = _first(chairs, "val")
    record = next(r for r in release.records("val")[0] if r.image == name)
    before = np.asarray(Image.open(release.mask(record)))
    _annotate(chairs, name, azimuth=record.viewpoint.azimuth + 40)
    changed = Pascal3DRelease(str(chairs), "chair")
    assert not changed.prepared()
    changed.prepare(0)
    assert not np.array_equal(np.asarray(Image.open(release.mask(record))), before)


def test_unusable_records_are_dropped_and_counted(chairs: pathlib.Path) -> None:
    extra = {"corrupt": b"MATLAB 5.0 MAT-file, or not", "coarse": None, "absent": None, "other": None, "lost": None}
    original, image = _first(chairs, "train"), f"Images/chair_imagenet/{_first(chairs, 'train')}.JPEG"
    for name, content in extra.items():
        path = chairs / f"Annotations/chair_imagenet/{name}.mat"
        path.write_bytes(content or (chairs / f"Annotations/chair_imagenet/{original}.mat").read_bytes())
        if name != "lost":
            shutil.copy(chairs / image, chairs / f"Images/chair_imagenet/{name}.JPEG")
    _annotate(chairs, "coarse", distance=0, azimuth=0)
    _annotate(chairs, "absent", cad_index=99, distance=5.0)
    _annotate(chairs, "other", **{"class": "sofa"})
    train = chairs / "Image_sets/chair_imagenet_train.txt"
    kept = Pascal3DRelease(str(chairs), "chair").records("train")[0]
    train.write_text("\n".join([*train.read_text().split(), *extra, "../../secret"]))
    records, counts = Pascal3DRelease(str(chairs), "chair").records("train")
    assert records == kept
    for what in (
        "images without a readable annotation",
        "objects without a fine viewpoint",
        "objects without a CAD model",
        "objects of other categories",
    ):
        assert counts[what] >= 1, what
    assert counts["images without a file"] == 2
    assert "1 objects without a CAD model" in describe(counts)


@pytest.mark.parametrize(
    "content", ["OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "OFF\n3 1 0\n0 0 0\nnan 0 0\n0 1 0\n3 0 1 2\n", "what"]
)
def test_a_bad_model_costs_its_own_objects_only(chairs: pathlib.Path, content: str) -> None:
    release = Pascal3DRelease(str(chairs), "chair")
    records = [record for split in ("train", "val") for record in release.records(split)[0]]
    bad = records[0].cad_index
    (chairs / f"CAD/chair/{bad:02d}.off").write_text(content)
    failures = release.prepare(0)
    spoiled = {record.name for record in records if record.cad_index == bad}
    assert failures.keys() == spoiled | {f"CAD {bad:02d}"}
    assert f"{bad:02d}.off" in failures[records[0].name]
    assert release.prepared()
    left = [record for record in records if record.cad_index != bad]
    assert left
    for split in ("train", "val"):
        try:
            found = Pascal3DSource(Pascal3DRelease(str(chairs), "chair"), split).records
        except ValueError as error:
            assert "not prepared" in str(error)  # noqa: PT017
            found = []
        assert all(record in left for record in found)


def test_errors_say_what_was_expected_where(chairs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="airplane, car, chair"):
        Pascal3DRelease(str(chairs), "boat")
    with pytest.raises(ValueError, match=r"Images/car_imagenet.*data\.root"):
        Pascal3DRelease(str(chairs), "car")
    with pytest.raises(ValueError, match="Annotations, CAD, Image_sets and Images"):
        Pascal3DRelease(str(tmp_path), "chair")
    with pytest.raises(ValueError, match=r"sdfsrn\.prepare data=pascal3d"):
        Pascal3DSource(Pascal3DRelease(str(chairs), "chair"), "val")
    with pytest.raises(ValueError, match="train, val, test"):
        Pascal3DSource(Pascal3DRelease(str(chairs), "chair"), "minival")
    (chairs / "Image_sets/chair_imagenet_val.txt").unlink()
    with pytest.raises(ValueError, match=r"chair_imagenet_val\.txt"):
        Pascal3DRelease(str(chairs), "chair").records("val")


def test_a_mask_of_another_image_and_a_spoiled_cloud_are_refused(chairs: pathlib.Path) -> None:
    release = Pascal3DRelease(str(chairs), "chair")
    release.prepare(0)
    source = Pascal3DSource(release, "val")
    Image.new("L", (10, 10)).save(source.names[0])
    with pytest.raises(ValueError, match=r"Expected a mask of .*JPEG's size"):
        source.picture(0)
    cloud = release.cloud(source.records[0].cad_index)
    cloud.write_bytes(npz_bytes(points=np.full((5, 3), np.nan)))
    with pytest.raises(ValueError, match="finite points"):
        source.points(0)


def test_a_cache_that_cannot_be_written_is_named(chairs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/cache .*set data\.cache"):
        Pascal3DRelease(str(chairs), "chair", str(tmp_path / "file" / "cache")).prepare(0)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(chairs: pathlib.Path) -> None:
    """Three kills, each a little later; then one run finishes what is missing, and every file is whole."""
    code = (
        "from sdfsrn.data.sources.pascal3d_release import Pascal3DRelease\n"
        f"if __name__ == '__main__': print('start', flush=True); Pascal3DRelease({str(chairs)!r}, 'chair').prepare(0)"
    )
    for delay in (0.3, 0.9, 1.6):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    release = Pascal3DRelease(str(chairs), "chair")
    assert release.prepare(0) == {}
    for split in ("train", "val"):
        source = Pascal3DSource(release, split)
        for index in range(len(source)):
            assert source.picture(index).alpha.max() > 0.9
            assert len(source.points(index)) > 0 or split == "train"
    assert not list(release.cache.rglob("*.tmp"))


@pytest.mark.slow
def test_the_whole_of_the_real_data(pascal3d: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """All records, prepared in parallel: surface, boxes and pixels."""
    for file in (pascal3d / "Image_sets").glob("full_*"):
        shutil.copy(file, file.with_name(file.name.removeprefix("full_")))
    agreed = []
    for category in CLASSES:
        release = Pascal3DRelease(str(pascal3d), category, str(tmp_path))
        assert release.prepare() == {}
        for split in ("train", "val"):
            source = Pascal3DSource(release, split)
            for record, name in zip(source.records, source.names, strict=True):
                mask = np.asarray(Image.open(name))
                points, _ = sample_surface(read_mesh(release.model(record.cad_index)), 20_000, seed=7)
                x, y = np.floor(_pixels(torch.from_numpy(points), record, mask.shape) - 0.5).astype(int).T
                seen = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
                assert (mask[y[seen], x[seen]] > 0).mean() > 0.995
                if not record.truncated and not record.occluded:
                    image = np.asarray(Image.open(release.image(record)).convert("RGB")).astype(float)
                    agreed.append(_agreement(image, mask >= 128))
    assert len(agreed) > 200
    assert np.median(agreed) > 0.985
    assert np.mean(np.array(agreed) > 0.97) > 0.85
