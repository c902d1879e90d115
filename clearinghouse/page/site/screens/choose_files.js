// Choosing files, and fingerprinting them one after the other.

import { fingerprint } from "./questions.js";
import { online } from "../build_flags.js";
import { button, element, list, paragraph, picker, row, SAVED, title } from "../dom.js";
import { readBody } from "../api.js";

export const CASE_MAX = 200; // files in a case
const FILES_MAX = online ? CASE_MAX : 5000; // what is saved goes into several
const EVERY = 0.25; // seconds between the moments of a video that is neither long nor lively
const TOLD = 4; // times that a screen reader hears how much of a video is done

/** Put a file on the list, or a fingerprint without its file. */
export function enlist(state, { blob = null, name = "", size = null, print = null }) {
	state.count += 1;
	state.files.push({ number: state.count, name, size, blob, print, code: null, twin: null, share: 0 });
}

/** What two equal files have in common. */
const identity = ({ media, signals }) => (media === "image" ? signals[0].value : signals.map(({ value }) => value).join());

/** Take files in; each is fingerprinted in its turn. */
function take(app, blobs) {
	const { files } = app.state;
	const room = FILES_MAX - files.length;
	for (const blob of [...blobs].slice(0, room)) {
		enlist(app.state, { blob, name: blob.name, size: blob.size });
	}
	app.state.tooMany = blobs.length > room;
	app.show();
	drain(app);
}

/** Take in fingerprints that the page for use without internet has saved. */
async function takeSaved(app, blob) {
	const { state } = app;
	const found = await readBody(blob);
	state.notSaved = !found.length;
	for (const print of found.slice(0, FILES_MAX - state.files.length)) {
		if (!twinOf(state, print)) enlist(state, { print });
	}
	if (state === app.state) app.show();
}

const twinOf = ({ files }, print) => files.find((other) => other.print && identity(other.print) === identity(print));

async function drain(app) {
	const { state, hasher } = app;
	if (state.busy) return;
	state.busy = true;
	for (let file = waiting(state); file && state === app.state; file = waiting(state)) {
		app.update(file);
		const progress = (share) => {
			const before = file.share;
			file.share = share;
			if (state === app.state) app.watch(file, Math.floor(share * TOLD) > Math.floor(before * TOLD));
			return state === app.state && state.files.includes(file);
		};
		const { code, found } = await hasher.hash(file.blob, { progress });
		const twin = code ? null : twinOf(state, found);
		file.blob = null;
		if (twin) Object.assign(file, { code: "twice", twin: twin.number });
		else Object.assign(file, { print: code ? null : found, code: code ?? null });
		if (state === app.state && state.files.includes(file)) app.update(file);
	}
	state.busy = false;
}

const waiting = ({ files }) => files.find(({ blob }) => blob);
export const ready = ({ files }) => files.filter(({ print }) => print);
const megabytes = (words, { size }) => words.number.format(size && Math.max(size / 2 ** 20, 0.1));

const named = ({ say, words }, file, number) =>
	file.size === null
		? say("file.number", { number })
		: say("file.line", { number, size: megabytes(words, file) });

const held = (refused, why) => refused.some(({ code }) => code === why);

/** Tell which file has which number in the case, so that one can be found again to take it back. */
export function numbers(app, receipts) {
	const { state } = app;
	return list(
		ready(state).slice(0, receipts.length).map((file, n) => [
			named(app, file, receipts[n].item),
			held(receipts[n].refused, "quarantined") ? element("div", { class: "small" }, app.say("status.held_back")) : null,
			held(receipts[n].refused, "being_checked") ? element("div", { class: "small" }, app.say("receipt.being_checked")) : null,
			state.names ? element("div", { class: "small screen-only", dir: "auto" }, file.name) : null,
		]),
	);
}

function status({ say, state, words }, file) {
	if (file.print) return element("p", { class: "ready" }, made({ say, words }, file.print));
	if (file.code) return paragraph(say(`refused.${file.code}`, { number: file.twin }));
	if (file.share) return element("p", { class: "hint" }, say("file.film", { share: words.percent.format(file.share) }));
	return element("p", { class: "hint" }, say(waiting(state) === file ? "file.now" : "file.waits"));
}

/** Say what was made of a file. */
function made({ say, words }, { moments, every }) {
	if (!moments) return say("file.ready");
	const ready = say("file.film_ready", { count: words.number.format(moments) });
	return every > EVERY ? `${ready} ${say("file.film_long", { seconds: words.number.format(every) })}` : ready;
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
	const begun = state.files.length > 0;
	const area = element(
		"div",
		{ class: "drop" },
		picker(say("choose.button"), "files", (files) => take(app, files), { multiple: true, kind: begun ? "" : "main" }),
		paragraph(say("choose.drop"), { class: "small" }),
		online ? picker(say("choose.saved"), "saved", ([file]) => takeSaved(app, file), { accept: SAVED, kind: "quiet" }) : null,
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
	app.watch = (file, aloud) => {
		const line = document.querySelector(`#file-${file.number} .hint`);
		const { textContent: now } = status(app, file);
		if (line) line.textContent = now;
		if (aloud) app.tell(say("file.told", { number: file.number, what: now }));
	};
	const progress = () => {
		const done = state.files.filter(({ blob }) => !blob).length;
		onward.disabled = done < state.files.length || !ready(state).length;
		const all = state.files.length;
		count.textContent = done < all ? say("choose.progress", { done, all }) : say("choose.done", { ready: ready(state).length, all });
	};
	progress();
	return [
		title(say(state.secret ? "choose.more" : "choose.title")),
		paragraph(say("choose.what")),
		fingerprint(app),
		area,
		state.tooMany ? paragraph(say("choose.too_many", { most: FILES_MAX })) : null,
		begun
			? [
					count,
					element("label", { class: "tick" }, names, say("choose.names")),
					element("ul", { class: "files" }, state.files.map((file) => line(app, file))),
					row(onward, button(say("back"), back, "quiet")),
				]
			: row(button(say("back"), back, "quiet")),
	];
}
