// Decoded pictures: the open one and its neighbours are kept, so that stepping through the folder does not wait.

const KEPT = 6;

export class Pictures {
  constructor(server) {
    this.server = server;
    this.decoded = new Map();  // id -> promise of a bitmap, the last used at the end
    this.ready = new Map();  // id -> bitmap
  }

  /** The bitmap, if it is decoded. */
  peek(id) {
    return this.ready.get(id) ?? null;
  }

  image(id) {
    const found = this.decoded.get(id) ?? this.server.bitmap(`/api/pictures/${id}/image`);
    this.decoded.delete(id);
    this.decoded.set(id, found);
    found.then((bitmap) => this.decoded.has(id) && this.ready.set(id, bitmap), () => this.decoded.delete(id));
    for (const old of [...this.decoded.keys()].slice(0, -KEPT)) {
      this.decoded.delete(old);
      this.ready.delete(old);  // not closed: it may be on the stage
    }
    return found;
  }

  mask(id, version) {
    return this.server.bitmap(`/api/pictures/${id}/mask?version=${encodeURIComponent(version)}`);
  }

  thumbnail(id) {
    return `/api/pictures/${id}/thumbnail`;
  }
}
