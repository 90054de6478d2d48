// Calls of the annotation server, and the outbox of edits: sent in order, one after the other, repeated until answered.

const PAUSES = [300, 700, 1500, 3000];  // milliseconds between tries
const RERUN = 150;  // milliseconds after a stroke before the colours are cut again
const PATIENCE = 60000, SLOW = 4000;  // milliseconds until a call is given up, and until an edit counts as slow
const SILENT = "the server does not answer";
const STRANGER = "The server was started again and has another address: open the one that it prints. What it has not saved "
  + "yet is kept in this browser, and sent from there.";

/** An answer that says no; `status` is 0 where there was no answer. */
export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
  /** The token is no longer valid: nothing more can be said to this server. */
  get isStranger() {
    return this.status === 401 || this.status === 403;
  }
  get isFinal() {
    return this.status >= 400 && this.status < 500 && !this.isStranger && ![408, 429].includes(this.status);
  }
}

export class Server {
  /** `lost(words)`, if set, is called when the token is no longer valid. */
  constructor(token) {
    Object.assign(this, { token, lost: null });
  }

  async call(path, body) {
    const headers = { "X-Token": this.token };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const options = { headers, method: body === undefined ? "GET" : "POST", body: body && JSON.stringify(body) };
    const response = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE) }).catch(() => null);
    if (!response) throw new Refusal(SILENT, 0);
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({}));
    const refusal = new Refusal(error ?? `the server answered ${response.status}`, response.status);
    if (refusal.isStranger) this.lost?.(STRANGER);
    throw refusal;
  }

  async json(path, body) {
    const response = await this.call(path, body);
    return response.json().catch(() => { throw new Refusal(SILENT, 0); });
  }

  async bitmap(path) {
    const response = await this.call(path);
    const blob = await response.blob().catch(() => { throw new Refusal(SILENT, 0); });
    return createImageBitmap(blob).catch(() => { throw new Refusal("this picture cannot be shown", 415); });
  }
}

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/** Edits that wait for an answer, in the browser's own database: they survive a killed browser. */
export class Journal {
  static async open(name) {
    const request = indexedDB.open(`sdfsrn-annotate ${name}`, 1);
    request.onupgradeneeded = () => request.result.createObjectStore("edits", { keyPath: "edit.key" });
    return new Journal(await settled(request).catch(() => null));  // null where the browser forbids it
  }

  constructor(database) {
    this.database = database;
  }

  _edits(mode) {
    return this.database?.transaction("edits", mode).objectStore("edits");
  }

  async all() {
    const items = this.database ? await settled(this._edits("readonly").getAll()) : [];
    return items.sort((one, two) => one.time - two.time);
  }

  keep(item) {
    this._edits("readwrite")?.put(item);
  }

  forget(item) {
    this._edits("readwrite")?.delete(item.edit.key);
  }
}

export class Outbox {
  /** `answered(item, draft)`, `refused(item, error)` and `status({ waiting, trouble })` are called as things happen. */
  constructor(server, journal, { answered, refused, status }) {
    Object.assign(this, { server, journal, answered, refused, status, items: [], run: null });
  }

  /** Takes up the edits of a page that was killed. `pictures` are the server's; edits of others are forgotten. */
  async restore(pictures) {
    const ids = new Map(pictures.map(({ name, id }) => [name, id]));
    for (const item of await this.journal.all()) {
      if (ids.has(item.name)) this.items.push({ ...item, id: ids.get(item.name) });
      else this.journal.forget(item);
    }
    this._start();
  }

  add({ id, name }, edit) {
    const last = this.items.at(-1)?.time ?? 0;
    const item = { id, name, time: Math.max(Date.now(), last + 1), edit: { ...edit, key: crypto.randomUUID() } };
    this.items.push(item);
    this.journal.keep(item);
    this._start();
  }

  /** Edits of a picture that were not answered yet. */
  pending(id) {
    return this.items.filter((item) => item.id === id).map((item) => item.edit);
  }

  /** Waits until all edits were answered; from a server that is slow or silent, no longer than for `SLOW`. */
  async emptied() {
    await Promise.race([this.run, new Promise((resolve) => setTimeout(resolve, SLOW))]);
  }

  _start() {
    if (this.items.length > 0) this.run ??= this._run();
  }

  async _run() {
    for (let tries = 0; this.items.length > 0;) {
      const [item] = this.items;
      const [draft, error] = await this._send(item).then((answer) => [answer, null], (reason) => [null, reason]);
      if (error?.isStranger) return;  // the edits stay in the journal
      if (error && !error.isFinal) {
        this.status({ waiting: this.items.length, trouble: error.message });
        await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(tries, PAUSES.length - 1)]));
        tries += 1;
        continue;
      }
      tries = 0;
      this.items.shift();
      this.journal.forget(item);
      try {
        if (error) this.refused(item, error);
        else this.answered(item, draft);
      } catch (fault) {
        reportError(fault);  // edits go on to be saved whatever happens on the screen
      }
    }
    this.run = null;
    this.status({ waiting: 0, trouble: null });
  }

  async _send(item) {
    const isRerun = ({ id, edit }) => id === item.id && edit.do === "stroke" && edit.grabcut;
    if (isRerun(item)) {
      const rest = item.time + RERUN - Date.now();
      if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
    }
    const next = this.items[1];
    const isFollowed = isRerun(item) && next !== undefined && isRerun(next);  // the next stroke cuts for both
    const edit = isFollowed ? { ...item.edit, grabcut: false } : item.edit;
    const slow = setTimeout(() => this.status({ waiting: this.items.length, trouble: SILENT }), SLOW);
    return this.server.json(`/api/pictures/${item.id}/edits`, edit).finally(() => clearTimeout(slow));
  }
}
