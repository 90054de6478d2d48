"""The world's conventions for poses, and this package's cameras: into ours and back.

    name      world frame      camera axes                       pixel coordinates (x to the right, y downward)
    opencv    the user's       x right, y down, z forward        pixels; the middle of the first pixel is (0, 0)
    opengl    the user's       x right, y up, z backward         pixels; the outer corner of the first pixel is (0, 0)
    nmr       the user's       x right, y down, z forward        [-1, 1]^2; the outer corner of the first pixel is (-1, -1)
    pascal3d  z up, front -y   x right, y down, z forward        pixels; the middle of the first pixel is (1, 1)

A point's camera coordinates are `world_to_camera` (x, 1). With OpenCV's axes and depth Z, `intrinsics` maps (X / Z, Y / Z, 1)
(perspective) or (X, Y, 1) (orthographic) to pixel coordinates; OpenGL's Y and Z change their signs first. A convention's world
frame is turned into ours, y up and front -z, by `CAD_TO_WORLD` for pascal3d, and kept by the others.

Angles, in degrees, are for nmr and pascal3d. Both stand the camera at distance d on

    nmr       d (cos e sin a, sin e, -cos e cos a)     as `look_at_origin`
    pascal3d  d (cos e sin a, -cos e cos a, sin e)     as project_3d.m of PASCAL3D+; in our world, azimuth -a of nmr

from where azimuth 0 sees the front and `elevation` is upward; `theta` then turns the picture counterclockwise. With angles the
camera is a weak-perspective one: `scale` pixel coordinates (along x) a unit of the world, whose origin falls on (x, y).
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from sdfsrn.functional.camera import Camera, OrthographicCamera, PerspectiveCamera

CAD_TO_WORLD = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])  # (x, y, z) -> (-x, z, y), a rotation
CAMERA_DISTANCE = 2.5  # of weak-perspective cameras, in front of the origin: any depth gives the same picture
FLIP = np.diag([1.0, -1.0, -1.0])
# The pinhole cameras of Kato et al.'s renderings of ShapeNet ("NMR"): degrees above the object, its distance in world units,
# and the focal length in half screens (fields of view of 30 degrees).
NMR_ELEVATION, NMR_DISTANCE, NMR_FOCAL = 30.0, 2.732, 3.7320508
PROJECTIONS: dict[str, type[Camera]] = {"perspective": PerspectiveCamera, "orthographic": OrthographicCamera}


class Convention(NamedTuple):
    """What differs between conventions."""

    to_world: np.ndarray  # (3, 3) from its world frame to ours
    to_opencv: np.ndarray  # (3, 3) from its camera axes to ours
    corner: float | None  # pixel coordinate of the picture's outer corner; None: coordinates in [-1, 1]
    azimuth: int  # sign of its azimuth in `pascal3d_rotation`; 0: it has no angles


CONVENTIONS = {
    "opencv": Convention(np.eye(3), np.eye(3), -0.5, 0),
    "opengl": Convention(np.eye(3), FLIP, 0.0, 0),
    "nmr": Convention(np.eye(3), np.eye(3), None, -1),
    "pascal3d": Convention(CAD_TO_WORLD, np.eye(3), 0.5, 1),
}


def pascal3d_rotation(azimuth: float, elevation: float, theta: float) -> Float[np.ndarray, "3 3"]:
    """R = Rz(-theta) diag(1, -1, -1) Rx(elevation - 90) Rz(-azimuth), from the CAD's frame to OpenCV's camera axes.

    diag(1, -1, -1) is half a turn about x. Angles in degrees, as PASCAL3D+ annotates them; project_3d.m of its release.
    """
    return Rotation.from_euler("zxz", [-azimuth, elevation + 90, -theta], degrees=True).as_matrix()


def rotation_from_angles(azimuth: float, elevation: float, theta: float, convention: str) -> Float[np.ndarray, "3 3"]:
    """From our world to OpenCV's camera axes; angles in degrees. Raises ValueError for a convention without angles."""
    frame = convention_with_angles(convention)
    return pascal3d_rotation(frame.azimuth * azimuth, elevation, theta) @ CAD_TO_WORLD.T


def angles_from_rotation(rotation: Float[np.ndarray, "3 3"], convention: str) -> tuple[float, float, float]:
    """The angles of `rotation_from_angles`: azimuth in [0, 360), elevation in [-90, 90], theta in (-180, 180].

    Seen from straight above or below, where azimuth and theta turn the picture alike, theta is 0.
    """
    frame = convention_with_angles(convention)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock")  # the last angle is 0 then
        first, middle, last = Rotation.from_matrix(rotation @ CAD_TO_WORLD).as_euler("zxz", degrees=True)
    return float(-frame.azimuth * first % 360), float(middle - 90), float(180 - (180 + last) % 360)


def camera_from_angles(
    angles: tuple[float, float, float],
    scale: float,
    origin: tuple[float, float],
    convention: str,
    size: tuple[int, int],
) -> OrthographicCamera:
    """Our weak-perspective camera, float64, whose screen is a whole picture of `size` (width, height).

    `angles` are azimuth, elevation and theta; `scale` and `origin` (x, y) as in the table above.
    """
    to_screen = screen_matrix(convention, size)
    square = to_screen[0, 0] * size[0] / (to_screen[1, 1] * size[1])  # pixels are square, [-1, 1]^2 need not be
    intrinsics = np.array([[scale, 0, origin[0]], [0, scale * square, origin[1]], [0, 0, 1]])
    pose = np.column_stack([rotation_from_angles(*angles, convention), [0, 0, CAMERA_DISTANCE]])
    return OrthographicCamera(torch.from_numpy(pose), torch.from_numpy(to_screen @ intrinsics))


def angles_from_camera(
    camera: OrthographicCamera, convention: str, size: tuple[int, int]
) -> tuple[tuple[float, float, float], float, tuple[float, float]]:
    """Angles, scale and origin of `camera_from_angles`."""
    pose, intrinsics = (value.double().numpy() for value in camera)
    coordinates = np.linalg.inv(screen_matrix(convention, size)) @ intrinsics
    x, y = (coordinates @ [*pose[:2, 3], 1])[:2]
    return angles_from_rotation(pose[:, :3], convention), float(coordinates[0, 0]), (float(x), float(y))


def camera_from_matrices(
    world_to_camera: Float[np.ndarray, "3 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    convention: str,
    size: tuple[int, int],
    projection: str = "perspective",
) -> Camera:
    """Our camera, float64, whose screen is a whole picture of `size` (width, height)."""
    frame = CONVENTIONS[convention]
    pose = frame.to_opencv @ world_to_camera
    pose[:, :3] = pose[:, :3] @ frame.to_world.T
    screen = screen_matrix(convention, size) @ intrinsics
    return PROJECTIONS[projection](torch.from_numpy(pose), torch.from_numpy(screen))


def matrices_from_camera(
    camera: Camera, convention: str, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3 4"], Float[np.ndarray, "3 3"]]:
    """`world_to_camera` and `intrinsics` of `camera_from_matrices`."""
    frame = CONVENTIONS[convention]
    pose, screen = (value.double().numpy() for value in camera)
    pose = frame.to_opencv.T @ pose
    pose[:, :3] = pose[:, :3] @ frame.to_world
    return pose, np.linalg.inv(screen_matrix(convention, size)) @ screen


def crop_camera(camera: Camera, size: tuple[int, int], left: float, top: float, side: float) -> Camera:
    """The camera of the window that `crop_square` takes out of a picture of `size` (width, height)."""
    window = np.array([[2 / side, 0, -2 * left / side - 1], [0, 2 / side, -2 * top / side - 1], [0, 0, 1]])
    picture = screen_matrix("opengl", size)  # whose pixels are the window's
    return camera._replace(intrinsics=torch.from_numpy(window @ np.linalg.inv(picture)) @ camera.intrinsics.double())


def convention_with_angles(name: str) -> Convention:
    """Raises ValueError for a convention that has none."""
    if CONVENTIONS[name].azimuth == 0:
        raise ValueError(f"Expected convention nmr or pascal3d with azimuth, elevation and theta, got {name}: give matrices.")
    return CONVENTIONS[name]


def screen_matrix(convention: str, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """From a convention's pixel coordinates in a picture of `size` (width, height) to its screen [-1, 1]^2."""
    corner = CONVENTIONS[convention].corner
    if corner is None:
        return np.eye(3)
    x, y = 2 / size[0], 2 / size[1]
    return np.array([[x, 0, -x * corner - 1], [0, y, -y * corner - 1], [0, 0, 1]])
