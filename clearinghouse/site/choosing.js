// Choosing files, fingerprinting them one after the other, looking at what will be sent, sending it.

import { fingerprint } from "./asking.js";
import { online } from "./edition.js";
import { answers, button, code, element, list, more, paragraph, row, save, title } from "./elements.js";
import { addingBody, addItems, newKey, openCase, openingBody, readBody, Trouble } from "./service.js";

const FILES_MAX = 200; // in a case
const WORKED_MAX = 3; // times that more work than was done may be asked for
const UNKNOWN = ["offline", "busy", "internal_error"];

/** Take files in; each is fingerprinted in its turn. */
function take(app, blobs) {
  const { files } = app.state;
  const room = FILES_MAX - files.length;
  for (const blob of [...blobs].slice(0, room)) {
    app.state.count += 1;
    files.push({ number: app.state.count, name: blob.name, size: blob.size, blob, code: null, print: null, twin: null });
  }
  app.state.tooMany = blobs.length > room;
  app.show();
  drain(app);
}

/** Take in fingerprints that the page for use without internet has saved. */
async function takeSaved(app, blob) {
  const { state } = app;
  const found = readBody(await blob.text().catch(() => ""));
  state.notSaved = !found.length;
  for (const print of found.slice(0, FILES_MAX - state.files.length)) {
    if (state.files.some((other) => other.print?.pdq === print.pdq)) continue;
    state.count += 1;
    state.files.push({ number: state.count, name: "", size: null, blob: null, code: null, print, twin: null });
  }
  if (state === app.state) app.show();
}

async function drain(app) {
  const { state, hasher } = app;
  if (state.busy) return;
  state.busy = true;
  for (let file = waiting(state); file && state === app.state; file = waiting(state)) {
    app.update(file);
    const { code, found } = await hasher.hash(file.blob);
    file.blob = null;
    file.print = code ? null : found;
    file.code = code ?? null;
    const twin = file.print && state.files.find((other) => other !== file && other.print?.pdq === found.pdq);
    if (twin) Object.assign(file, { print: null, code: "twice", twin: twin.number });
    if (state === app.state) app.update(file);
  }
  state.busy = false;
}

const waiting = ({ files }) => files.find(({ blob }) => blob);
const ready = ({ files }) => files.filter(({ print }) => print);
const prints = (state) => ready(state).map(({ print }) => print);
const megabytes = (words, { size }) => words.number.format(size && Math.max(size / 2 ** 20, 0.1));

const named = ({ say, words }, file, number) =>
  file.size === null
    ? say("file.number", { number })
    : say("file.line", { number, size: megabytes(words, file) });

/** Tell which file has which number in the case, so that one can be found again to take it back. */
export function numbers(app, receipts) {
  const { state } = app;
  return list(
    ready(state).map((file, n) => [
      named(app, file, receipts[n].item),
      receipts[n].refused.some(({ code }) => code === "quarantined")
        ? element("div", { class: "small" }, app.say("status.held_back"))
        : null,
      state.names ? element("div", { class: "small screen-only", dir: "auto" }, file.name) : null,
    ]),
  );
}

function status({ say, state }, file) {
  if (file.print) return element("p", { class: "ready" }, say("file.ready"));
  if (file.code) return paragraph(say(`refused.${file.code}`, { number: file.twin }));
  const now = waiting(state) === file;
  return element("p", { class: "hint" }, say(now ? "file.now" : "file.waits"));
}

function line(app, file) {
  const { say, state } = app;
  const remove = () => {
    state.files.splice(state.files.indexOf(file), 1);
    // the next copy of the same picture takes its place
    const [heir, ...others] = state.files.filter(({ twin }) => twin === file.number);
    if (heir) Object.assign(heir, { print: file.print, code: null, twin: null });
    for (const other of others) other.twin = heir.number;
    app.show();
  };
  return element(
    "li",
    { id: `file-${file.number}` },
    paragraph(named(app, file, file.number)),
    state.names ? paragraph(file.name, { class: "small", dir: "auto" }) : null,
    status(app, file),
    button(say("file.remove", { number: file.number }), remove, "quiet"),
  );
}

/** The screen on which files are chosen. `app.update` replaces single lines while it is shown. */
export function choose(app) {
  const { say, state, go, back } = app;
  const input = element("input", {
    type: "file",
    multiple: true,
    hidden: true,
    id: "files",
    accept: "image/*,video/*",
    onchange: () => take(app, input.files),
  });
  const store = element("input", {
    type: "file",
    hidden: true,
    accept: "application/json",
    id: "saved",
    onchange: () => takeSaved(app, store.files[0]),
  });
  const area = element(
    "div",
    { class: "drop" },
    input,
    button(say("choose.button"), () => input.click(), state.files.length ? "" : "main"),
    paragraph(say("choose.drop"), { class: "small" }),
    online ? [store, button(say("choose.saved"), () => store.click(), "quiet")] : null,
    state.notSaved ? paragraph(say("choose.not_saved")) : null,
  );
  area.addEventListener("dragover", () => area.classList.add("over"));
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", ({ dataTransfer }) => take(app, dataTransfer.files));
  const names = element("input", {
    type: "checkbox",
    checked: state.names,
    onchange: () => {
      state.names = names.checked;
      app.show();
    },
  });
  const onward = button(say("continue"), () => go("review"), "main");
  const count = element("p", { class: "hint" });
  app.update = (file) => {
    document.getElementById(`file-${file.number}`)?.replaceWith(line(app, file));
    progress();
    if (!file.blob) app.tell(say("file.told", { number: file.number, what: status(app, file).textContent }));
  };
  const progress = () => {
    const done = state.files.filter(({ blob }) => !blob).length;
    onward.disabled = done < state.files.length || !prints(state).length;
    const all = state.files.length;
    const made = prints(state).length;
    count.textContent = done < all ? say("choose.progress", { done, all }) : say("choose.done", { ready: made, all });
  };
  progress();
  return [
    title(say(state.secret ? "choose.more" : "choose.title")),
    paragraph(say("choose.what")),
    fingerprint(app),
    area,
    state.tooMany ? paragraph(say("choose.too_many", { most: FILES_MAX })) : null,
    state.files.length
      ? [
          count,
          element("label", { class: "tick" }, names, say("choose.names")),
          element("ul", { class: "files" }, state.files.map((file) => line(app, file))),
          row(onward, button(say("back"), back, "quiet")),
        ]
      : row(button(say("back"), back, "quiet")),
  ];
}

/** The screen that says what will be sent, before anything is. */
export function review(app) {
  const { say, state, back } = app;
  const found = prints(state);
  return [
    title(say(online ? "review.title" : "offline.review")),
    list([
      say("review.prints", { count: found.length }),
      ...(found.some(({ signals }) => signals.length > 1) ? [say("review.altered")] : []),
      ...(!online
        ? []
        : state.secret
          ? [say("review.secret")]
          : [say("review.declared"), say("review.reason", { reason: say(`reason.${state.reason}`) })]),
    ]),
    paragraph(say(online ? "review.not" : "offline.only")),
    more(
      say("review.show"),
      element(
        "ol",
        {},
        found.map(({ signals }) =>
          element(
            "li",
            {},
            signals.map(({ value, quality, variant }) => [
              code(value),
              " ",
              element("span", { dir: "ltr" }, variant),
              " ",
              say("review.quality", { quality }),
            ]),
          ),
        ),
      ),
    ),
    fingerprint(app),
    answers(
      online
        ? button(say("review.send"), () => send(app), "main")
        : button(say("offline.save"), () => keep(app), "main"),
    ),
    row(button(say("back"), back, "quiet")),
  ];
}

/** Save the fingerprints, to be sent from the page on the internet. */
function keep(app) {
  save("notes.json", addingBody(prints(app.state)), "application/json");
  app.go("saved");
}

export function saved({ say, back, startOver }) {
  return [
    title(say("offline.saved")),
    paragraph(say("offline.next", { button: say("choose.saved") })),
    answers(button(say("next.finish"), startOver, "main")),
    row(button(say("back"), back, "quiet")),
  ];
}

/** Send once. The same key goes with every further attempt, so that it is never done twice. */
async function send(app) {
  const { state } = app;
  const found = prints(state);
  const body = state.secret ? addingBody(found) : openingBody(state.reason, found);
  if (state.sent?.body !== body) state.sent = { body, key: newKey() };
  app.go("sending");
  try {
    if (state.secret) {
      state.added = await addItems(state.secret, body, state.sent.key);
      if (state !== app.state) return;
      app.settle("added");
    } else {
      state.receipt = await sendOpening(app, found);
      if (state !== app.state) return;
      app.settle("receipt");
    }
  } catch (error) {
    if (state !== app.state) return;
    state.trouble = error.code ?? "internal_error";
    app.replace("notSent");
  }
}

/** Open the case, with as much work as the service asks for by then. */
async function sendOpening({ state, proof }, found) {
  for (let left = WORKED_MAX; ; left--) {
    const body = openingBody(state.reason, found, await proof.take());
    try {
      const receipt = await openCase(body, state.sent.key);
      proof.spend();
      return receipt;
    } catch (error) {
      if (error.code !== "work_needed") throw error;
      proof.spend();
      if (left === 0) throw new Trouble("busy");
    }
  }
}

export function sending({ say }) {
  return [title(say("sending.title")), paragraph(say("sending.what"))];
}

export function notSent(app) {
  const { say, state, words, replace } = app;
  const known = `trouble.${state.trouble}` in words.catalogue;
  return [
    title(say("unsent.title")),
    paragraph(say(known ? `trouble.${state.trouble}` : "trouble.internal_error")),
    paragraph(say("unsent.safe")),
    answers(button(say("again"), () => send(app), "main")),
    // Where the outcome is not known, only the very same request may follow, or it could count twice.
    UNKNOWN.includes(state.trouble) ? null : row(button(say("back"), () => replace("review"), "quiet")),
  ];
}
