// Choosing files, and hashing them one after the other.

import { aboutFingerprints } from "./questions.js";
import { online } from "../build_flags.js";
import { backRow, button, byId, element, list, paragraph, picker, SAVED, title } from "../dom.js";
import { readBody } from "../api.js";

export const CASE_MAX = 200; // files in a case
const FILES_MAX = online ? CASE_MAX : 5000; // saved fingerprints may go into several cases
const EVERY = 0.25; // seconds between the moments of a video that is neither long nor lively
const ANNOUNCEMENTS = 4; // of a video's progress, to screen readers

/** Add a file, or fingerprints alone. @param {State} state @param {Partial<ChosenFile>} file */
export function addFile(state, { blob = null, name = "", size = null, item = null }) {
	state.count += 1;
	state.files.push({ number: state.count, name, size, blob, item, code: null, duplicateOf: null, progress: 0 });
}

const isDone = ({ item, code }) => item || code;

/** What equal files have in common. */
const identity = ({ media, signals }) => (media === "image" ? signals[0].value : signals.map(({ value }) => value).join());

function addFiles(app, blobs) {
	const { files } = app.state;
	const free = FILES_MAX - files.length;
	for (const blob of [...blobs].slice(0, free)) {
		addFile(app.state, { blob, name: blob.name, size: blob.size });
	}
	app.state.tooMany = blobs.length > free;
	app.show();
	hashFiles(app);
}

async function addSaved(app, blob) {
	const { state } = app;
	const items = await readBody(blob);
	state.notSaved = !items.length;
	for (const item of items.slice(0, FILES_MAX - state.files.length)) {
		if (!equalFile(state, item)) addFile(state, { item });
	}
	if (state === app.state) app.show();
}

const equalFile = ({ files }, item) => files.find((other) => other.item && identity(other.item) === identity(item));

async function hashFiles(app) {
	const { state, hasher } = app;
	if (state.busy) return;
	state.busy = true;
	for (let file = nextFile(state); file && state === app.state; file = nextFile(state)) {
		app.fileChanged(file);
		const { thorough } = state;
		const progress = (share) => {
			const before = file.progress;
			file.progress = share;
			const announced = Math.floor(share * ANNOUNCEMENTS) > Math.floor(before * ANNOUNCEMENTS);
			if (state === app.state) app.fileProgress(file, announced);
			return state === app.state && state.files.includes(file);
		};
		const { code, found } = await hasher.hash(file.blob, { progress, thorough });
		if (thorough !== state.thorough && found?.media === "image") continue; // once more, by the new choice
		const equal = code ? null : equalFile(state, found);
		if (equal) Object.assign(file, { code: "twice", duplicateOf: equal.number });
		else Object.assign(file, { item: code ? null : found, code: code ?? null });
		if (state === app.state && state.files.includes(file)) app.fileChanged(file);
	}
	state.busy = false;
}

/** Choose a set of altered copies, for pictures that are hashed already too; videos have one set. */
function chooseSet(app, thorough) {
	const { state } = app;
	state.thorough = thorough;
	Object.assign(state.checked, { blob: null, answer: null });
	for (const file of state.files) if (file.blob && file.item?.media === "image") file.item = null;
	app.show();
	hashFiles(app);
}

const nextFile = ({ files }) => files.find((file) => !isDone(file));
const megabytes = (words, { size }) => words.number.format(size && Math.max(size / 2 ** 20, 0.1));

/** Return the files that have fingerprints. @type {ReadyFiles} */
export const readyFiles = ({ files }) => /** @type {any} */ (files.filter(({ item }) => item));

const fileName = ({ say, words }, file, number) =>
	file.size === null
		? say("file.number", { number })
		: say("file.line", { number, size: megabytes(words, file) });

/** List the files by their numbers in the case. @param {App} app @param {ReceiptItem[]} items */
export function fileNumbers(app, items) {
	const { state } = app;
	const note = ({ refused }, wanted, key) =>
		refused.some(({ code }) => code === wanted) ? element("div", { class: "small" }, app.say(key)) : null;
	return list(
		readyFiles(state).slice(0, items.length).map((file, n) => [
			fileName(app, file, items[n].item),
			note(items[n], "quarantined", "status.held_back"),
			note(items[n], "being_checked", "receipt.being_checked"),
			state.names ? element("div", { class: "small screen-only", dir: "auto" }, file.name) : null,
		]),
	);
}

function fileStatus({ say, state, words }, file) {
	if (file.item) return element("p", { class: "ready" }, resultText({ say, words }, file.item));
	if (file.code) return paragraph(say(`refused.${file.code}`, { number: file.duplicateOf }));
	const { progress } = file;
	if (progress) return element("p", { class: "hint" }, say("file.video", { share: words.percent.format(progress) }));
	return element("p", { class: "hint" }, say(nextFile(state) === file ? "file.now" : "file.waits"));
}

const announceFile = (app, file) =>
	app.announce(app.say("file.status", { number: file.number, what: fileStatus(app, file).textContent }));

function resultText({ say, words }, { moments, every }) {
	if (!moments) return say("file.ready");
	const ready = say("file.video_ready", { count: words.number.format(moments) });
	return every > EVERY ? `${ready} ${say("file.video_long", { seconds: words.number.format(every) })}` : ready;
}

function fileRow(app, file) {
	const { say, state } = app;
	const remove = () => {
		state.files.splice(state.files.indexOf(file), 1);
		// its fingerprints pass to the next copy of the same picture
		const [next, ...others] = state.files.filter(({ duplicateOf }) => duplicateOf === file.number);
		if (next) Object.assign(next, { item: file.item, code: null, duplicateOf: null });
		for (const other of others) other.duplicateOf = next.number;
		app.show();
	};
	return element(
		"li",
		{ id: `file-${file.number}` },
		paragraph(fileName(app, file, file.number)),
		state.names ? paragraph(file.name, { class: "small", dir: "auto" }) : null,
		fileStatus(app, file),
		button(say("file.remove", { number: file.number }), remove, "quiet"),
	);
}

function tick(text, checked, act, more = {}) {
	const input = element("input", { type: "checkbox", checked, onchange: () => act(input.checked), ...more });
	return element("label", { class: "tick" }, input, text);
}

/** @param {App} app */
export function choose(app) {
	const { say, state, go } = app;
	const started = state.files.length > 0;
	const area = element(
		"div",
		{ class: "drop" },
		picker(say("choose.button"), "files", (files) => addFiles(app, files), { multiple: true, kind: started ? "" : "main" }),
		paragraph(say("choose.drop"), { class: "small" }),
		online ? picker(say("choose.saved"), "saved", ([file]) => addSaved(app, file), { accept: SAVED, kind: "quiet" }) : null,
		state.notSaved ? paragraph(say("choose.not_saved")) : null,
	);
	area.addEventListener("dragover", () => area.classList.add("over"));
	area.addEventListener("dragleave", () => area.classList.remove("over"));
	area.addEventListener("drop", ({ dataTransfer }) => addFiles(app, dataTransfer?.files ?? []));
	const showNames = (names) => {
		state.names = names;
		app.show();
	};
	const onward = button(say("continue"), () => go("review"), "main");
	const count = element("p", { class: "hint" });
	app.fileChanged = (file) => {
		byId(`file-${file.number}`)?.replaceWith(fileRow(app, file));
		showCount();
		if (isDone(file)) announceFile(app, file);
	};
	app.fileProgress = (file, announced) => {
		document.querySelector(`#file-${file.number} .hint`)?.replaceWith(fileStatus(app, file));
		if (announced) announceFile(app, file);
	};
	const showCount = () => {
		const done = state.files.filter(isDone).length;
		const ready = readyFiles(state).length;
		const all = state.files.length;
		onward.disabled = done < all || !ready;
		count.textContent = done < all ? say("choose.progress", { done, all }) : say("choose.done", { ready, all });
	};
	showCount();
	return [
		title(say(state.secret ? "choose.more" : "choose.title")),
		paragraph(say("choose.what")),
		aboutFingerprints(app),
		tick(say("choose.parts"), state.thorough, (thorough) => chooseSet(app, thorough), { "aria-describedby": "parts" }),
		paragraph(say("choose.parts_what"), { class: "small", id: "parts" }),
		area,
		state.tooMany ? paragraph(say("choose.too_many", { most: FILES_MAX })) : null,
		started
			? [
					count,
					tick(say("choose.names"), state.names, showNames),
					element("ul", { class: "files" }, state.files.map((file) => fileRow(app, file))),
				]
			: null,
		backRow(app, started && onward),
	];
}
