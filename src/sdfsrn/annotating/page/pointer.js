// The pointer on the stage: draws, turns, zooms and pans.

const NOTCH = 0.0015, LINE = 16;  // of the wheel: per CSS pixel; CSS pixels per line
const SIZE = 0.4;  // of the zoom's speed, for the size of the box

export function bindPointer(app, element) {
  let gesture = null;  // "draw", "pan", "pose"
  let last = [0, 0];
  const at = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("mousedown", (event) => event.preventDefault());  // no scrolling by the middle button

  element.addEventListener("pointerdown", (event) => {
    app.notice();
    document.activeElement?.blur();
    if (!app.draft || gesture) return;
    element.setPointerCapture(event.pointerId);
    last = at(event);
    gesture = begin(app, event, last);
    if (!gesture) element.releasePointerCapture(event.pointerId);
  });

  element.addEventListener("pointermove", (event) => {
    if (!app.draft) return;
    const steps = gesture === "draw" ? event.getCoalescedEvents?.() ?? [] : [];
    for (const one of steps.length ? steps : [event]) {
      const here = at(one);
      if (gesture === "pan") app.stage.view.pan(here[0] - last[0], here[1] - last[1]);
      if (gesture === "pose") app.posing.follow(...here);
      else app.drawing.point(app.stage.view.toPicture(...here));
      last = here;
    }
    if (gesture === "pan") app.stage.refresh();
    if (gesture) app.notice();
  });

  const end = (event, isLost) => {
    if (!gesture) return;
    const ended = gesture;
    gesture = null;
    app.notice();
    if (element.hasPointerCapture(event.pointerId)) element.releasePointerCapture(event.pointerId);
    if (ended === "draw" && app.drawing.isActive) app.drawing.lift();
    if (ended === "pose" && app.posing.drag) app.posing.release();
    if (isLost) app.refresh();
  };
  element.addEventListener("pointerup", (event) => end(event, false));
  element.addEventListener("pointercancel", (event) => end(event, true));

  element.addEventListener("pointerleave", () => {
    if (gesture) return;
    app.drawing.isOver = false;
    app.stage.refresh("overlay");
  });

  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    app.notice();
    if (!app.draft) return;
    const amount = -event.deltaY * (event.deltaMode ? LINE : 1) * NOTCH * (event.ctrlKey ? 4 : 1);
    if (app.step === "pose" && !event.ctrlKey) app.posing.scale(Math.exp(SIZE * amount));
    else {
      app.stage.view.zoomAt(...at(event), Math.exp(amount));
      app.refresh();
    }
  }, { passive: false });
}

/** Begins what the buttons and modifiers of a press mean; null if nothing. */
function begin(app, event, here) {
  const isPose = app.step === "pose";
  if (event.button === 1 && !isPose) return "pan";
  if (isPose) {
    const kind = event.button === 1 ? "move" : event.button === 0 ? (event.shiftKey ? "roll" : "turn") : null;
    if (!kind) return null;
    app.posing.grab(kind, ...here);
    return "pose";
  }
  if (event.button > 2) return null;
  app.drawing.point(app.stage.view.toPicture(...here));
  app.drawing.press(event.button === 2 || event.altKey);
  return "draw";
}
