"""Camera poses of pictures, found by a predicted shape."""

from sdfsrn.poses.search import PoseCandidate, PoseSearch, flip_test, predicted_mesh, propose_pose, unposed_picture

__all__ = ["PoseCandidate", "PoseSearch", "flip_test", "predicted_mesh", "propose_pose", "unposed_picture"]
