"""What most trainings of the suite have in common: a model that is learned in no time, and not well."""

from __future__ import annotations

PICTURES = [
    "data.shapes.image_size=24",
    "data.num_rays=48",
]
MODEL = [
    "model.hypernetwork.hidden_width=16",
    "model.hypernetwork.num_hidden=1",
    "model.hypernetwork.field.width=16",
    "model.encoder.latent_dim=16",
    "model.losses.terms.eikonal.num_points=32",
    "model.validation.resolution=12",
    "model.validation.num_points=200",
]
PRETRAINING = [
    "callbacks.pretraining.iterations=300",
    "callbacks.pretraining.num_points=256",
    "callbacks.pretraining.learning_rate=1e-2",
]
