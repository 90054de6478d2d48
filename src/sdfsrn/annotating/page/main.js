// Puts the page together: panels around the picture, sheets over it, and what they show.

import { act } from "./actions.js";
import { App } from "./app.js";
import { byId, write } from "./dom.js";
import { Filmstrip, stateWords } from "./filmstrip.js";
import { showHelp } from "./help.js";
import { bindButtons, bindKeys, isTyping } from "./keys.js";
import { Pictures } from "./pictures.js";
import { bindPointer } from "./pointer.js";
import { Wheel, showProgress, showSaved } from "./progress.js";
import { Review } from "./review.js";
import { Journal, Outbox, Server } from "./server.js";
import { hint, showPose, showTools } from "./tools.js";

const TOLD = 5000;  // milliseconds that a message stays
const AGAIN = 1500;  // milliseconds until the folder is asked for again
const ANGLES = ["azimuth", "elevation", "theta"];

function token() {
  const given = new URLSearchParams(location.search).get("token");
  if (given) sessionStorage.setItem("token", given);
  return given ?? sessionStorage.getItem("token") ?? "";
}

/** The folder's state, asked for until it is there. */
async function folderState(server) {
  for (;;) {
    try {
      return await server.json("/api/state");
    } catch (error) {
      const isStranger = error.isStranger;
      write(byId("curtain-words"), isStranger ? "Open the address that the command printed." : `${error.message}, trying again`);
      if (isStranger) await new Promise(() => {});
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
  }
}

class Page {
  constructor(server, journal) {
    this.server = server;
    this.saving = { waiting: 0, trouble: null, saved: null };
    this.outbox = new Outbox(server, journal, {
      answered: (item, draft) => {
        Object.assign(this.saving, { saved: draft.saved, waiting: this.outbox.items.length, trouble: null });
        this.app.answered(item, draft);
      },
      refused: (item, error) => {
        this.say(`${item.name}: ${error.message}`);
        this.app.refused(item);
      },
      status: (status) => {
        Object.assign(this.saving, status);
        showSaved(this.saving);
      },
    });
    const pictures = new Pictures(server);
    const say = (words) => this.say(words);
    const shown = (part) => this.show(part);
    this.app = new App({ server, outbox: this.outbox, pictures, element: byId("stage"), shown, say });
    this.filmstrip = new Filmstrip(this.app, byId("filmstrip"));
    this.wheel = new Wheel(this.app, byId("wheel"));
    this.review = new Review({
      server, outbox: this.outbox, pictures, sheet: byId("sheet"),
      open: (id) => {
        this.closeReview();
        this.app.open(id, "pose");
      },
      improve: (picture, pose) => {
        this.closeReview();
        this.app.open(picture.id, "pose");
        this.app.posing.change(pose);
      },
    });
    this._bind();
  }

  _bind() {
    const { app } = this;
    bindKeys(app, () => byId("help").open || byId("review").open);
    bindButtons(app, document);
    bindPointer(app, byId("stage"));
    byId("help").addEventListener("click", (event) => event.target === byId("help") && byId("help").close());
    for (const sheet of ["help", "review"]) {
      byId(`${sheet}-close`).addEventListener("click", () => byId(sheet).close());
      byId(sheet).addEventListener("keydown", (event) => {
        event.stopPropagation();  // the window's keys are for the picture
        if (event.key === { help: "?", review: "v" }[sheet]) byId(sheet).close();
      });
    }
    for (const name of ANGLES) {
      const field = byId(name);
      field.addEventListener("change", () => {
        if (app.draft && field.value !== "" && field.validity.valid) app.posing.set({ [name]: Number(field.value) });
        else this.show("pose");
      });
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === "Escape") field.blur();
      });
    }
    window.addEventListener("pagehide", () => app.leave());
    document.addEventListener("visibilitychange", () => document.hidden && app.leave());
  }

  start(state) {
    document.title = `${state.root} · annotate`;
    write(byId("root"), state.root);
    byId("page").hidden = false;
    byId("curtain").hidden = true;
    this.app.stage.resize();
    this.app.start(state);
    this.outbox.restore(state.pictures);
  }

  /** Covers everything: nothing more can be done here. */
  close(words) {
    byId("page").inert = true;
    write(byId("curtain-words"), words);
    byId("curtain").hidden = false;
  }

  show(part) {
    const { app } = this;
    if (part === "help") return showHelp(byId("help"), byId("help-keys"), app);
    if (part === "review" || part === "end") return this.openReview(part === "end");
    if (part === "pictures") this.filmstrip.update();
    if (part === "picture") this.showPicture();
    if (part === "tools" || part === "picture") showTools(app);
    if (part === "pose" || part === "tools") showPose(app, isTyping(document.activeElement));
    if (app.current) this.wheel.update();
  }

  showPicture() {
    const { app, saving } = this;
    const { current, draft } = app;
    this.filmstrip.update();
    write(byId("name"), current.name);
    write(byId("state"), `${app.all.indexOf(current) + 1} of ${app.all.length} · ${stateWords(current)}`);
    showProgress(app.all, app.eta);
    showSaved({ ...saving, saved: saving.saved ?? draft?.saved, waiting: this.outbox.items.length });
    write(byId("hint"), hint(app));
    if (this.shownId === current.id) return;
    this.shownId = current.id;
    this.server.json("/api/state").then((state) => {
      app.eta = state.eta_seconds;
      showProgress(app.all, app.eta);
    }, () => {});
  }

  say(words) {
    const note = byId("note");
    write(note, words);
    note.hidden = false;
    clearTimeout(this.telling);
    this.telling = setTimeout(() => { note.hidden = true; }, TOLD);
  }

  async openReview(isEnd) {
    const { app } = this;
    app.leave();
    const skipped = app.all.filter(({ state }) => state === "skipped").length;
    write(byId("review-words"), isEnd
      ? `All pictures are done${skipped ? `, ${skipped} skipped` : ""}. A flip stands out here: look once along every row.`
      : "Sorted by azimuth: in every row, fronts (orange) point the same way. Enter or a click opens a picture.");
    byId("review").showModal();
    await this.review.show(app.all).catch((error) => this.say(error.message));
  }

  closeReview() {
    byId("review").close();
  }
}

async function begin() {
  const server = new Server(token());
  const state = await folderState(server);
  write(byId("curtain-words"), "This folder is open in another tab. Close that one, and it goes on here.");
  await navigator.locks?.request(`sdfsrn-annotate ${state.root}`, async () => {
    const page = new Page(server, await Journal.open(state.root));
    page.start(await folderState(server));
    window.annotation = page.app;  // for the console
    const words = await new Promise((resolve) => { server.lost = resolve; });  // the lock is kept as long
    page.close(words);
  });
}

begin();
