from __future__ import annotations

import math
import pathlib

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import trimesh

from sdfsrn.functional.pointcloud import match
from sdfsrn.functional.surface import f_score
from sdfsrn.metrics import ChamferDistance, FScore, NormalConsistency, VolumeIoU


def ball(radius: float) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(4, radius)


def test_f_score_is_the_mean_over_objects() -> None:
    metric, pairs = FScore((0.1, 0.4)), [(torch.randn(40 + i, 3), torch.randn(60, 3)) for i in range(3)]
    for pair in pairs:
        metric.update(*pair)
    metric.update(torch.zeros(0, 3), pairs[0][1])
    found = metric.compute()
    for threshold in (0.1, 0.4):
        expected = sum(f_score(match(*pair), threshold) for pair in pairs) / 3
        assert found[f"fscore@{threshold}"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert found["failures"] == 1


def test_meshes_are_sampled() -> None:
    chamfer = ChamferDistance(num_points=20_000)
    chamfer.update(ball(0.4), ball(0.5))
    assert chamfer.compute()["chamfer"].item() == pytest.approx(0.1, abs=2e-3)
    squared = ChamferDistance(squared=True, num_points=20_000)
    squared.update(ball(0.4), ball(0.5))
    assert squared.compute()["chamfer"].item() == pytest.approx(0.01, abs=4e-4)
    empty = ChamferDistance()
    empty.update(trimesh.Trimesh(), ball(0.5))
    assert empty.compute()["failures"] == 1


def test_normals_of_balls_agree_and_of_a_box_do_not() -> None:
    metric = NormalConsistency(20_000)
    metric.update(ball(0.4), ball(0.5))
    assert metric.compute()["normal_consistency"].item() == pytest.approx(1, abs=0.01)
    metric.reset()
    metric.update(trimesh.creation.box((0.7, 0.7, 0.7)), ball(0.5))
    assert 0.5 < metric.compute()["normal_consistency"] < 0.95
    with pytest.raises(ValueError, match="got 4 points"):
        metric.update(torch.zeros(4, 3), ball(0.5))


def test_overlap_of_solids() -> None:
    metric = VolumeIoU()
    metric.update(ball(0.4), ball(0.5))
    assert metric.compute()["volume_iou"].item() == pytest.approx(0.8**3, abs=5e-3)
    metric.reset()
    box = trimesh.creation.box()
    metric.update(box, box.copy().apply_translation([0.5, 0, 0]))
    assert metric.compute()["volume_iou"].item() == pytest.approx(1 / 3, abs=3e-3)
    for other in (torch.zeros(3, 3), trimesh.Trimesh(box.vertices, box.faces[1:])):
        with pytest.raises(ValueError, match="watertight"):
            metric.update(box, other)


def test_a_failure_alone_scores_nothing() -> None:
    metric = VolumeIoU()
    assert metric.compute() == {}
    metric.update(trimesh.Trimesh(), ball(0.5))
    assert metric.compute() == {"volume_iou": 0, "failures": 1}


def pairs() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(30 + i, 3, generator=generator) / 3**i, torch.randn(50, 3, generator=generator)) for i in range(7)]


def measured(chosen: list[int]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for metric in (ChamferDistance(), FScore((0.1, 0.5))):
        for i in chosen:
            metric.update(*pairs()[i])
        metric.update(torch.zeros(0, 3), pairs()[0][1])
        found |= metric.compute()
    return found


def work(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = measured([0, 5, 2] if rank else [6, 1, 4, 3])
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def work_second(_: int, folder: str) -> None:
    work(1, folder)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_exactly(tmp_path: pathlib.Path) -> None:
    other = mp.spawn(work_second, (str(tmp_path),), join=False)
    work(0, str(tmp_path))
    other.join()
    alone = measured(list(range(7)))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.pop("failures") == 2
        assert all(torch.equal(value, alone[name]) for name, value in found.items())
    assert not math.isnan(alone["chamfer"])


def test_order_does_not_matter_at_all() -> None:
    forward, backward = measured(list(range(7))), measured(list(range(7))[::-1])
    assert all(torch.equal(value, backward[name]) for name, value in forward.items())
