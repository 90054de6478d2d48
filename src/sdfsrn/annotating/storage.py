"""The page's own files in a folder: drafts, the layers of their histories, and masks for training.

    .annotations/<picture>/draft.json     the history and the present state: what is there has happened
    .annotations/<picture>/<digest>.png   layers that a step of it names: mask (gray) and seeds (alpha), as shown
    .annotations/address.json             where the page was served, and its token
    masks/<picture without suffix>.png    the present mask, in the picture's own size; its note names the layers

Files are written beside their place and moved into it. A draft is written after the layers that it names and before its mask.
"""

from __future__ import annotations

import hashlib
import io
import json
import pathlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdfsrn.annotating.drafts import Draft, from_json
from sdfsrn.annotating.folder import DRAFTS, MASKS, Photo, is_inside
from sdfsrn.annotating.silhouettes import Layers
from sdfsrn.data.images import open_image
from sdfsrn.runtime.files import cache_key, reason, write_atomically

ADDRESS = "address.json"
NOTE = "annotation"  # key of the PNG note that names the layers of a mask


class Storage:
    """Reads and writes the files of a folder's annotations.

    Args:
        root: the folder.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root

    def address(self, names: list[str]) -> tuple[int, str | None]:
        """Port and token of the last page on the folder, so that it goes on after a restart; 0 and None if it may not.

        `names` are those of all pictures: with others, the numbers by which an open page knows them have moved.
        """
        try:
            known = json.loads((self.root / DRAFTS / ADDRESS).read_text(encoding="utf-8"))
            return (int(known["port"]), str(known["token"])) if known["names"] == cache_key(names) else (0, None)
        except Exception:  # a broken file is as good as none
            return 0, None

    def keep_address(self, names: list[str], port: int, token: str) -> None:
        """Write port and token, for nobody else to read."""
        path = self.root / DRAFTS / ADDRESS
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(json.dumps({"port": port, "token": token, "names": cache_key(names)}), encoding="utf-8")

    def clean(self) -> None:
        """Delete what a killed process left half written."""
        partial = [*self.root.glob(".cameras.csv.*.tmp")]
        for folder in (DRAFTS, MASKS):
            partial += (self.root / folder).rglob(".*.tmp")
        for path in partial:
            path.unlink(missing_ok=True)

    def draft(self, photo: Photo) -> Draft | None:
        """The saved draft of a picture.

        Raises:
            ValueError: a file that holds no draft, or one of a picture of another size.
        """
        path = self._folder(photo) / "draft.json"
        try:
            return from_json(path.read_text(encoding="utf-8"), photo.size)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise ValueError(f"Could not use {path}: {reason(error)}. Move it away to begin the picture again.") from error

    def save(self, photo: Photo, draft: Draft) -> None:
        """Write a draft, and then delete the layers that no step of it names."""
        folder = self._folder(photo)
        self._write(folder / "draft.json", draft.to_json(photo.name, photo.size).encode())
        named = {step.mask for step in draft.steps}
        for path in folder.glob("*.png"):
            if path.stem not in named:
                path.unlink(missing_ok=True)

    def keep_layers(self, photo: Photo, layers: Layers) -> str:
        """Write layers for a step to name; the name."""
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).data for part in layers)).hexdigest()[:16]
        path = self._folder(photo) / f"{digest}.png"
        if not path.is_file():
            self._write(path, quick_png(np.dstack(layers)))
        return digest

    def layers(self, photo: Photo, digest: str) -> Layers:
        """The layers of a step.

        Raises:
            ValueError: the file is gone or broken.
        """
        both = np.asarray(open_image(self._folder(photo) / f"{digest}.png"))
        return Layers(both[..., 0], both[..., 1])

    def write_mask(self, photo: Photo, path: str, digest: str, layers: Layers) -> None:
        """Write a mask for training, unless it is there."""
        if self.mask_note(path) == digest:
            return
        mask = Image.fromarray(layers.mask)
        if mask.size != photo.original:
            mask = mask.resize(photo.original, Image.Resampling.BICUBIC)
        self._write(self.root / path, quick_png(np.asarray(mask), digest))

    def mask_note(self, path: str) -> str | None:
        """The name of the layers that a mask was written from; "" of a mask that the page has not written; None: no file."""
        if not (self.root / path).is_file():
            return None
        try:
            with Image.open(self.root / path) as image:
                return str(image.info.get(NOTE, ""))
        except Exception:  # whatever a decoder makes of broken bytes
            return ""

    def new_mask_path(self, photo: Photo, photos: set[str]) -> str:
        """Where a picture's masks go: `masks/<path without suffix>.png`, or a longer name where that is another's.

        `photos` are the names of all pictures.
        """
        path = pathlib.PurePosixPath(photo.name)
        alone = not any(
            other != photo.name and str(pathlib.PurePosixPath(other).with_suffix("")) == str(path.with_suffix(""))
            for other in photos
        )
        stem = f"{MASKS}/{path.with_suffix('') if alone else path}"
        names = [f"{stem}.png", *(f"{stem}_{i}.png" for i in range(2, 1000))]
        return next(name for name in names if not (self.root / name).exists() and (alone or name not in photos))

    def _folder(self, photo: Photo) -> pathlib.Path:
        return self.root / DRAFTS / photo.name

    def _write(self, path: pathlib.Path, content: bytes) -> None:
        if not is_inside(self.root, path.parent):
            raise OSError(f"Could not write {path}: its folder is a link to the outside.")
        write_atomically(path, content)


def quick_png(image: np.ndarray, note: str | None = None) -> bytes:
    """A picture as PNG, quickly."""
    info = PngInfo()
    if note is not None:
        info.add_text(NOTE, note)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1, pnginfo=info)
    return stream.getvalue()
