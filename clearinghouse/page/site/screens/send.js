// What will be sent, and sending it.

import { aboutFingerprints } from "./questions.js";
import { CASE_MAX, readyFiles } from "./choose_files.js";
import { online } from "../build_flags.js";
import { answers, backRow, button, code, details, download, element, list, paragraph, row, SAVED, title } from "../dom.js";
import {
	addingBody, addItems, addSignals, codeOf, newKey, openCase, openingBody, partBody, splitIntoParts,
} from "../api.js";

const OUTCOME_UNKNOWN = ["offline", "busy", "internal_error"];

const itemsOf = (state) => readyFiles(state).map(({ item }) => item);

/** @param {App} app @param {string | null} code */
export const problemText = ({ say, words }, code) =>
	say(`error.${code}` in words.catalogue ? `error.${code}` : "error.internal_error");

/** @param {App} app */
export function review(app) {
	const { say, state, go } = app;
	const items = itemsOf(state);
	return [
		title(say(online ? "review.title" : "offline.review")),
		list([
			say("review.prints", { count: items.length }),
			...(items.some(({ signals }) => signals.length > 1) ? [say("review.altered")] : []),
			...(items.some(({ media }) => media === "video") ? [say("review.moments")] : []),
			say("review.media"),
			...(!online
				? []
				: state.secret
					? [say("review.secret")]
					: [say("review.declared"), say("review.reason", { reason: say(`reason.${state.reason}`) })]),
		]),
		paragraph(say(online ? "review.not" : "offline.only")),
		details(say("review.show"), ...readyFiles(state).map((file) => fingerprintsOf(app, file))),
		aboutFingerprints(app),
		answers(
			online
				? button(say("review.send"), () => send(app), "main")
				: button(say("offline.save"), () => savePart(app, 0), "main"),
			button(say("check.open"), () => go("check"), "quiet"),
		),
		backRow(app),
	];
}

function fingerprintsOf({ say }, { number, item: { signals } }) {
	const line = ({ value, quality, variant }) =>
		element("li", {}, code(variant, "b"), " ", say("review.quality", { quality }), element("br"), code(value));
	return details(
		say("review.file", { number, count: signals.length }),
		element("ol", { class: "prints" }, signals.map(line)),
	);
}

/** Save the fingerprints for one of several cases. */
function savePart(app, part) {
	const items = itemsOf(app.state).slice(part * CASE_MAX, (part + 1) * CASE_MAX);
	download(part ? `notes-${part + 1}.json` : "notes.json", addingBody(items), SAVED);
	app.state.saved = part + 1;
	if (part) app.replace("saved");
	else app.go("saved");
}

/** @param {App} app */
export function saved(app) {
	const { say, state, startOver } = app;
	const parts = Math.ceil(itemsOf(state).length / CASE_MAX);
	const more = state.saved < parts;
	return [
		title(say("offline.saved")),
		parts > 1 ? paragraph(say("offline.part", { number: state.saved, all: parts, most: CASE_MAX })) : null,
		paragraph(say("offline.next", { button: say("choose.saved") })),
		answers(
			more ? button(say("offline.more"), () => savePart(app, state.saved), "main") : null,
			button(say("next.finish"), startOver, more ? "" : "main"),
		),
		backRow(app),
	];
}

/** Send all files. A request keeps its idempotency key in every attempt, so that nothing is done twice. */
async function send(app) {
	const { state } = app;
	const parts = splitIntoParts(itemsOf(state));
	const opens = (n) => !state.secret && n === 0;
	const bodies = parts.map((part, n) =>
		!part.items ? partBody(part) : opens(n) ? openingBody(state.reason, part.items) : addingBody(part.items),
	);
	if (String(state.sent?.bodies) !== String(bodies)) {
		state.sent = { bodies, keys: bodies.map(newKey), answers: [] };
	}
	const { keys, answers } = state.sent;
	app.replace("sending");
	try {
		while (answers.length < parts.length) {
			const n = answers.length;
			const secret = state.secret ?? (n && { number: answers[0].case, passphrase: answers[0].passphrase });
			const part = parts[n];
			const sendPart = (work, header) =>
				part.items
					? addItems(secret, addingBody(part.items, work), keys[n], header)
					: addSignals(secret, answers.flatMap(receiptItems)[part.file ?? 0].item, partBody(part, work), keys[n], header);
			answers.push(
				await (opens(n) ? sendOpening(app, part.items, keys[n]) : app.proof.send(sendPart, announceWork(app))),
			);
			if (state !== app.state) return;
			const all = { ...answers[0], expires: answers[n].expires, items: answers.flatMap(receiptItems) };
			if (state.secret) state.added = all;
			else state.receipt = all;
		}
		app.announce("");
		app.settle(state.secret ? "added" : "receipt");
	} catch (error) {
		if (state !== app.state) return;
		app.announce("");
		state.problem = codeOf(error);
		app.replace("notSent");
	}
}

const receiptItems = ({ items }) => items ?? [];

async function sendOpening(app, items, key) {
	const { state, proof } = app;
	const open = (work) => openCase(openingBody(state.reason, items, work), key);
	const receipt = await proof.send(open, announceWork(app), await proof.start());
	proof.discard();
	return receipt;
}

/** Return a function that explains a wait, or returns false once she has left. @param {App} app */
export function announceWork(app) {
	const { state } = app;
	return () => {
		if (state !== app.state) return false;
		app.announce(app.say("work.what"), true);
		return true;
	};
}

/** @param {App} app */
export function sending({ say }) {
	return [title(say("sending.title")), paragraph(say("sending.what"))];
}

/** @param {App} app */
export function notSent(app) {
	const { say, state, replace } = app;
	const { problem, receipt, sent } = state;
	const started = sent?.answers.length;
	return [
		title(say(started ? "unsent.part" : "unsent.title")),
		paragraph(problemText(app, problem)),
		paragraph(say("unsent.safe")),
		answers(
			button(say("again"), () => send(app), "main"),
			receipt ? button(say("unsent.receipt"), () => app.settle("receipt")) : null,
		),
		// where the outcome is unknown, only the same request may follow: another could count twice
		started || OUTCOME_UNKNOWN.includes(problem ?? "") ? null : row(button(say("back"), () => replace("review"), "quiet")),
	];
}
