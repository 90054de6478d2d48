"""The annotations of a folder, in memory as on the disk: drafts, masks and the table, kept in step with each other."""

from __future__ import annotations

import collections
import datetime
import logging
import pathlib
import threading
from typing import Any

import numpy as np

from sdfsrn.annotating.drafts import Draft, Opinion, Pose, Step
from sdfsrn.annotating.folder import has_alpha, lock_folder, open_photo, picture_names, read_mask, read_shown
from sdfsrn.annotating.opinions import Subject
from sdfsrn.annotating.silhouettes import Layers, empty_layers
from sdfsrn.annotating.storage import Storage
from sdfsrn.annotating.table import WRITTEN, CameraTable, Row
from sdfsrn.data.cropping import Box, object_box
from sdfsrn.runtime.files import cache_key

IMAGES = 4  # decoded pictures that are kept
ALPHA, FILE = "alpha", "file:"  # masks of steps that were not drawn here

log = logging.getLogger(__name__)


class Annotations:
    """The pictures of a folder, with their drafts; whoever changes a draft holds the picture's lock and saves it.

    Args:
        root: the folder; reserved for this object until `close`.
        crop: side of the window that training cuts out, as of `FolderSource`.
        convention: of poses where the folder's table has no such column.

    Raises:
        ValueError: no pictures; a folder or a table that cannot be used; another page on the folder.
    """

    def __init__(self, root: str | pathlib.Path, crop: float | None = 1.2, convention: str | None = None) -> None:
        self.root = pathlib.Path(root)
        self.crop = crop
        names = picture_names(self.root)
        self._lock = lock_folder(self.root)
        self.storage = Storage(self.root)
        self.storage.clean()
        self.table = CameraTable(self.root, convention)
        masks = self.table.paths("mask") - self.table.paths("image")
        self.photos = [open_photo(self.root, name) for name in names if name not in masks]
        self.names = {photo.name for photo in self.photos}
        self.drafts = [Draft() for _ in self.photos]
        self.locks = [threading.Lock() for _ in self.photos]
        self._table_lock = threading.Lock()
        self._cache_lock = threading.Lock()
        self._images: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()
        self._layers: collections.OrderedDict[tuple[int, str], Layers] = collections.OrderedDict()
        for index in range(len(self.photos)):
            self._begin(index)

    def give_opinion(self, index: int, opinion: Opinion) -> None:
        """Keep what a checkpoint says about a picture, with its draft; it is no step of the history."""
        with self.locks[index]:
            self.save(index, self.drafts[index]._replace(opinion=opinion), edited=False, export=False)

    def opinion(self, index: int) -> Opinion | None:
        """The checkpoint's opinion on a picture with its present mask; `iou` and `better` hold for its present pose only."""
        step, opinion = self.drafts[index].step, self.drafts[index].opinion
        if opinion is None or opinion.mask != step.mask:
            return None
        return opinion if opinion.pose == step.pose else opinion._replace(pose=step.pose, iou=None, better=None)

    def subject(self, index: int) -> Subject | None:
        """A picture for a checkpoint to look at; None without a mask.

        Raises:
            ValueError: a picture or a mask that cannot be read.
        """
        step = self.drafts[index].step
        if step.mask is None or self.photos[index].error is not None:
            return None
        layers = self.layers(index)
        return Subject(self.image(index), layers.mask, step.mask, step.pose, Pose(0, 0, 0, **self.frame(index, step)))

    def close(self) -> None:
        """Wait for running edits, and give the folder back."""
        for lock in self.locks:
            lock.acquire()
        self._lock.close()

    def save(self, index: int, draft: Draft, edited: bool = True, export: bool = True) -> None:
        """Write a draft, its mask and its row of the table, in that order.

        `edited` says that a person did it, at this time; without `export` the table stays as it is.

        Raises:
            OSError: a file could not be written.
        """
        photo = self.photos[index]
        name = draft.step.mask
        drawn = name is not None and name != ALPHA and not name.startswith(FILE)
        if drawn and draft.mask_path is None:
            draft = draft._replace(mask_path=self.storage.new_mask_path(photo, self.names))
        with self._table_lock:
            if draft.state == "done" and draft.split is None:
                self.table.refresh()
                draft = draft._replace(split=self.table.next_split())
            rows = self.table.find(photo.name)
            if rows:
                draft = draft._replace(others=_others(rows[0]))
            if draft != self.drafts[index] or (edited and draft.saved is None):
                if edited:
                    draft = draft._replace(saved=datetime.datetime.now().isoformat(timespec="seconds"))
                self.storage.save(photo, draft)
                self.drafts[index] = draft
            if drawn:
                assert draft.mask_path is not None  # set above
                assert name is not None
                if self.storage.mask_note(draft.mask_path) != name:
                    self.storage.write_mask(photo, draft.mask_path, name, self.layers(index))
            if export:
                self.table.put(photo.name, self._row(index, draft))

    def layers(self, index: int) -> Layers:
        """Mask and seeds of a picture, as shown.

        Raises:
            ValueError: a mask file that cannot be used.
        """
        photo, name = self.photos[index], self.drafts[index].step.mask
        if name is None:
            return empty_layers(photo.size)
        with self._cache_lock:
            if (index, name) in self._layers:
                return self._layers[index, name]
        if name == ALPHA or name.startswith(FILE):
            mask = read_mask(self.root, photo, None if name == ALPHA else name.removeprefix(FILE))
            layers = Layers(mask, np.zeros_like(mask))
        else:
            layers = self.storage.layers(photo, name)
        self._remember(self._layers, (index, name), layers)
        return layers

    def version(self, index: int, what: str) -> str:
        """A key that changes when a picture's `image`, `thumbnail` or `mask` does."""
        photo, step = self.photos[index], self.drafts[index].step
        try:
            found = (self.root / photo.name).stat()
        except OSError as error:
            raise ValueError(f"Could not read a picture from {photo.name}: {error.strerror}.") from error
        mask = step.mask if what == "mask" else None
        return cache_key([str(self.root.resolve()), photo.name, what, mask, found.st_mtime_ns, found.st_size])

    def image(self, index: int) -> np.ndarray:
        """The colours of a picture as shown, (h, w, 3) uint8.

        Raises:
            ValueError: it cannot be read.
        """
        with self._cache_lock:
            if index in self._images:
                return self._images[index]
        image = read_shown(self.root, self.photos[index])
        self._remember(self._images, index, image)
        return image

    def frame(self, index: int, step: Step) -> dict[str, float]:
        """Scale and origin in [-1, 1]^2 that training gives to a pose without: see `FolderSource`."""
        width, height = self.photos[index].size
        left, top, right, bottom = step.bounds or (0, 0, width, height)
        longer = max(width, height) if self.crop is None or step.bounds is None else self.crop * max(right - left, bottom - top)
        return {"scale": longer / width, "x": (left + right) / width - 1, "y": (top + bottom) / height - 1}

    def _begin(self, index: int) -> None:
        """Take up a picture as its files have it."""
        photo = self.photos[index]
        if photo.error is not None:
            return
        try:
            rows = self.table.find(photo.name)
            if len(rows) > 1:
                places = f"{len(rows)} rows in {self.table.path}"
                raise ValueError(f"{photo.name} has {places}: only a picture of one object can be annotated here.")
            draft = self.storage.draft(photo)
            if draft is None:
                self._import(index, rows[0] if rows else None)
            else:
                self.drafts[index] = draft
                self._reconcile(index, rows[0] if rows else None)
        except ValueError as error:
            self.photos[index] = photo._replace(error=str(error))
            log.warning("%s", error)

    def _import(self, index: int, row: Row | None) -> None:
        """Begin the draft of a picture with the mask and the pose that it has already."""
        photo = self.photos[index]
        step = Step(pose=self.table.pose(row, photo.original) if row else None)
        stem = pathlib.PurePosixPath(photo.name).with_suffix("")
        if row and row.get("mask"):
            step = step._replace(mask=FILE + row["mask"])
        elif has_alpha(self.root, photo):
            step = step._replace(mask=ALPHA)
        elif self.storage.mask_note(f"masks/{stem}.png") is not None:
            step = step._replace(mask=f"{FILE}masks/{stem}.png")
        split = row.get("split") if row else None
        self.drafts[index] = Draft((self._with_bounds(index, step),), split=split, others=_others(row or {}))
        if step != Step():
            self.save(index, self.drafts[index], export=row is None)

    def _reconcile(self, index: int, row: Row | None) -> None:
        """Bring table and mask up to date after a kill, and take up what another program has changed in them."""
        draft = self.drafts[index]
        near = [draft.steps[i] for i in (draft.position - 1, draft.position + 1) if 0 <= i < len(draft.steps)]
        note = self.storage.mask_note(draft.mask_path) if draft.mask_path else None
        if note == "":  # another program has written it
            mask = read_mask(self.root, self.photos[index], draft.mask_path)
            draft = draft.then(self.with_layers(index, draft.step, Layers(mask, np.zeros_like(mask))))
        ours = row is None or any(self._same(index, row, step) for step in (draft.step, *near))
        if row is not None and not ours:
            step = draft.step._replace(pose=self.table.pose(row, self.photos[index].original))
            if row.get("mask") and row["mask"] not in (draft.mask_path, self._mask_cell(draft, step)):
                step = self._with_bounds(index, step._replace(mask=FILE + row["mask"]))
            draft = draft.then(step)
        self.save(index, draft, export=ours or draft.state == "done")

    def _same(self, index: int, row: Row, step: Step) -> bool:
        """Whether a row says what a step says."""
        draft = self.drafts[index]
        if step.pose is None or step.mask is None:
            return False
        poses = zip(self.table.pose(row, self.photos[index].original), self._posed(index, step, row), strict=True)
        close = all((a is None) == (b is None) and abs((a or 0) - (b or 0)) < 1e-3 for a, b in poses)
        return close and row.get("mask", "") == self._mask_cell(draft, step)

    def _row(self, index: int, draft: Draft) -> Row | None:
        """The picture's row of the table; None if it is not complete."""
        photo, step = self.photos[index], draft.step
        if draft.state != "done":
            return None
        rows = self.table.find(photo.name)
        kept = rows[0] if rows else {"image": photo.name, **draft.others}
        cells = self.table.cells(self._posed(index, step, kept), photo.original)
        return {**kept, "mask": self._mask_cell(draft, step), "split": draft.split or "", **cells}

    def _posed(self, index: int, step: Step, row: Row) -> Pose:
        """The pose of a step as it is written: with its scale beside a true shape, which is measured in the world's unit."""
        assert step.pose is not None
        if row.get("shape") and step.pose.scale is None:
            return step.pose._replace(scale=self.frame(index, step)["scale"])
        return step.pose

    def _mask_cell(self, draft: Draft, step: Step) -> str:
        if step.mask is None or step.mask == ALPHA:
            return ""
        return step.mask.removeprefix(FILE) if step.mask.startswith(FILE) else draft.mask_path or ""

    def with_layers(self, index: int, step: Step, layers: Layers) -> Step:
        """A step with layers that were drawn, which are written."""
        box = object_box(layers.mask / np.float32(255))
        if box is None:
            return step._replace(mask=None, bounds=None)
        digest = self.storage.keep_layers(self.photos[index], layers)
        self._remember(self._layers, (index, digest), layers)
        return self._bounded(index, step._replace(mask=digest), box)

    def _with_bounds(self, index: int, step: Step) -> Step:
        """A step with the box of the mask that it names, or without a mask if nothing is inside."""
        if step.mask is None:
            return step
        photo = self.photos[index]
        mask = read_mask(self.root, photo, None if step.mask == ALPHA else step.mask.removeprefix(FILE))
        box = object_box(mask / np.float32(255))
        return step._replace(mask=None, bounds=None) if box is None else self._bounded(index, step, box)

    def _bounded(self, index: int, step: Step, box: Box) -> Step:
        """A step with the box of its mask, flagged `cut_off` if that touches the picture's border and the last did not."""
        width, height = self.photos[index].size

        def touches(left: int, top: int, right: int, bottom: int) -> bool:
            return min(left, top) == 0 or right == width or bottom == height

        found = touches(*box) and not (step.bounds and touches(*step.bounds))
        return step._replace(bounds=(*box,), flags=tuple(sorted({*step.flags, "cut_off"})) if found else step.flags)

    def _remember(self, cache: collections.OrderedDict, key: Any, value: Any) -> None:
        with self._cache_lock:
            cache[key] = value
            cache.move_to_end(key)
            while len(cache) > IMAGES:
                cache.popitem(last=False)


def _others(row: Row) -> Row:
    """The cells of a row that the page does not write."""
    return {name: cell for name, cell in row.items() if name not in WRITTEN}
