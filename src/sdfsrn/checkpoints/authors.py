"""Checkpoints of the released code (github.com/chenhsuanlin/signed-distance-SRN) as models of this package."""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor

from sdfsrn.models import FieldConfig
from sdfsrn.runtime.files import reason
from sdfsrn.runtime.texts import read_json
from sdfsrn.system import SDFSRN

_DEFAULTS = {  # the released ShapeNet configuration, for settings that have no weights
    "srn_steps": 10,
    "bisection_steps": 10,
    "init_depth": 2.0,
    "depth_range": (2.0, 3.5),
    "sdf_range": (-1.0, 1.0),
    "sdf_samples": 5,
    "loss_weight": {"render": 1.0, "shape_silh": 3.0, "ray_intsc": 1.0, "ray_free": 0.1, "eikonal": 0.01},
}


def load_authors_checkpoint(path: str | pathlib.Path, settings: Mapping[str, Any] | str | pathlib.Path | None = None) -> SDFSRN:
    """An `SDFSRN` in evaluation mode that computes what the released code computes with this checkpoint.

    Args:
        path: checkpoint of the released code, `{"graph": state_dict, ...}`; read with `weights_only=True`.
        settings: the options of the training in the authors' names, a mapping or a JSON file. Missing ones follow from the
            shapes of the weights, else are those of the authors' ShapeNet experiment.

    Raises:
        ValueError: a file that is no such checkpoint, or settings at odds with its weights.
    """
    weights = _read_weights(pathlib.Path(path))
    try:
        config = _model_config(weights, _read_settings(settings))
        model = instantiate(config, _convert_="all")
        model.load_state_dict(_rename(weights, model.hypernetwork.field), strict=True)
    except Exception as error:  # of weights or settings of other shapes and types
        told = f" with the settings {settings}" if isinstance(settings, str | pathlib.Path) else ""
        raise ValueError(f"Expected a checkpoint of the released SDF-SRN code in {path}{told}: {reason(error)}.") from error
    model.config = {"model": config}
    model.pretrained = True
    return model.eval()


def _model_config(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The model's configuration node, as in `configs/model`, for checkpoints."""
    options = {**_DEFAULTS, **settings}
    hypernetwork = _hypernetwork_config(weights, settings)
    return {
        "_target_": "sdfsrn.SDFSRN",
        "encoder": {
            "_target_": "sdfsrn.models.ResNetEncoder",
            "latent_dim": weights["encoder.fc.weight"].shape[0],
            "depth": _encoder_depth(weights),
            "weights": None,
            "normalize": False,
        },
        "hypernetwork": hypernetwork,
        "raymarcher": {
            "_target_": "sdfsrn.models.LSTMRayMarcher",
            "feature_width": hypernetwork["field"]["width"],
            "start": options["init_depth"],
            "hidden_width": weights["renderer.lstm_pred.weight"].shape[1],
            "num_steps": options["srn_steps"],
            "num_bisections": options["bisection_steps"],
        },
        "losses": _losses_config(options),
    }


def _read_weights(path: pathlib.Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"Expected a checkpoint file at {path}, which does not exist.")
    try:
        graph = torch.load(path, map_location="cpu", weights_only=True)["graph"]
        return {name.removeprefix("module."): value for name, value in graph.items()}
    except Exception as error:
        raise ValueError(
            f"Expected a checkpoint of the released code with weights under `graph` in {path}: {reason(error)}."
        ) from error


def _read_settings(settings: Mapping[str, Any] | str | pathlib.Path | None) -> Mapping[str, Any]:
    if not isinstance(settings, str | pathlib.Path):
        return settings or {}
    found = read_json(pathlib.Path(settings), "the authors' settings")
    if not isinstance(found, dict):
        raise ValueError(f"Expected the authors' settings as a JSON object in {settings}, got another value.")
    return found


def _encoder_depth(weights: Mapping[str, Tensor]) -> int:
    blocks = len({name.split(".")[2] for name in weights if name.startswith("encoder.layer3.")})
    bottleneck = "encoder.layer1.0.conv3.weight" in weights
    return 50 if bottleneck else {2: 18, 6: 34}.get(blocks, 0)


def _hypernetwork_config(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    layers = {int(m[1]) for name in weights if (m := re.match(r"generator\.hyper_impl\.(\d+)\.", name))}
    linears = sorted(int(m[1]) for name in weights if (m := re.match(r"generator\.hyper_level\.0\.(\d+)\.weight", name)))
    width = weights[f"generator.hyper_level.0.{linears[-1]}.bias"].numel() - 1
    outputs = [weights[f"generator.hyper_impl.{i}.{linears[-1]}.bias"].numel() // width - 1 for i in sorted(layers)]
    frequencies, rest = divmod(outputs[0] - 3, 6)
    skip = len(outputs) > 1 and outputs[1] > width
    if rest or any(k != width + outputs[0] * skip for k in outputs[1:]):
        raise ValueError(f"Expected backbone layers that all see the encoded point or only the first, got inputs {outputs}.")
    if settings.get("posenc_L", frequencies) not in (frequencies, None):
        raise ValueError(f"Settings say posenc_L = {settings['posenc_L']}, but the weights have {frequencies}.")
    hidden_width, latent_dim = weights["generator.hyper_level.0.0.weight"].shape
    return {
        "_target_": "sdfsrn.models.Hypernetwork",
        "latent_dim": latent_dim,
        "hidden_width": hidden_width,
        "num_hidden": len(linears) - 1,
        "field": {
            "_target_": "sdfsrn.models.FieldConfig",
            "width": width,
            "depth": len(outputs),
            "num_frequencies": frequencies,
            "frequency_scale": math.pi,
            "skip": skip,
        },
    }


def _losses_config(options: Mapping[str, Any]) -> dict[str, Any]:
    (near, far), (low, high), weights = options["depth_range"], options["sdf_range"], options["loss_weight"]
    samples = options["sdf_samples"]
    terms = {  # our name: their name, class, arguments
        "silhouette": ("shape_silh", "SilhouetteLoss", {"near": near, "far": far, "num_samples": samples}),
        "color": ("render", "ColorLoss", {}),
        "ray_surface": ("ray_intsc", "RaySurfaceLoss", {"balance": True}),
        "ray_free": ("ray_free", "RayFreeLoss", {"importance": False}),
        "eikonal": ("eikonal", "EikonalLoss", {"low": low, "high": high}),
    }
    return {
        "_target_": "sdfsrn.losses.Objective",
        "terms": {name: {"_target_": f"sdfsrn.losses.{kind}", **given} for name, (_, kind, given) in terms.items()},
        "weights": {name: float(weights.get(theirs) or 0) for name, (theirs, _, _) in terms.items()},
    }


def _rename(weights: Mapping[str, Tensor], field: FieldConfig) -> dict[str, Tensor]:
    """Their state dict under this package's names, rows of predicted layers in this package's order of channels."""
    heads = {"generator.hyper_level.0": field.depth, "generator.hyper_rgb.0": field.depth + 1}
    renamed = {}
    for name, value in weights.items():
        if name.startswith("encoder."):
            renamed["encoder.network." + name.removeprefix("encoder.")] = value
        elif name.startswith("renderer."):
            renamed[name.replace("renderer.ray_lstm", "raymarcher.cell").replace("renderer.lstm_pred", "raymarcher.step")] = (
                value
            )
        elif match := re.match(r"(generator\.hyper_(?:level|rgb)\.0)\.(.*)", name):
            renamed[f"hypernetwork.branches.{heads[match[1]]}.{match[2]}"] = value
        elif match := re.match(r"generator\.hyper_impl\.(\d+)\.(\d+)\.(.*)", name):
            inputs, outputs = field.layers[int(match[1])]
            if value.shape[0] == (inputs + 1) * outputs:
                value = value.unflatten(0, (inputs + 1, outputs))[_row_order(inputs, field)].flatten(0, 1)
            renamed[f"hypernetwork.branches.{match[1]}.{match[2]}.{match[3]}"] = value
        else:
            raise ValueError(f"Expected the released code's parameter names, got {name}.")
    return renamed


def _row_order(inputs: int, field: FieldConfig) -> Tensor:
    """Index of their row for each of this package's: bias, features, x, cos x, sin x, cos 2x, sin 2x ...

    Theirs: bias, features, for each axis the sines and then the cosines of all frequencies, and last x.
    """
    features = inputs - field.encoding_width if inputs != field.encoding_width else 0
    waves = torch.arange(6 * field.num_frequencies).view(3, 2, field.num_frequencies)  # axis, sin or cos, frequency
    ours = waves.flip(1).permute(2, 1, 0).flatten()
    start = 1 + features
    coordinates = torch.arange(3) + start + 6 * field.num_frequencies
    return torch.cat([torch.arange(start), coordinates, start + ours])
