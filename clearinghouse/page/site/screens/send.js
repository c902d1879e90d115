// Looking at what will be sent, and sending it.

import { fingerprint } from "./questions.js";
import { CASE_MAX, ready } from "./choose_files.js";
import { online } from "../build_flags.js";
import { answers, button, code, element, list, more, paragraph, row, save, SAVED, title } from "../dom.js";
import { addingBody, addItems, addSignals, inParts, newKey, openCase, openingBody, partBody } from "../api.js";

const UNKNOWN = ["offline", "busy", "internal_error"];

const prints = (state) => ready(state).map(({ print }) => print);

/** The screen that says what will be sent, before anything is. */
export function review(app) {
	const { say, state, back, go } = app;
	const found = prints(state);
	return [
		title(say(online ? "review.title" : "offline.review")),
		list([
			say("review.prints", { count: found.length }),
			...(found.some(({ signals }) => signals.length > 1) ? [say("review.altered")] : []),
			...(found.some(({ media }) => media === "video") ? [say("review.moments")] : []),
			say("review.media"),
			...(!online
				? []
				: state.secret
					? [say("review.secret")]
					: [say("review.declared"), say("review.reason", { reason: say(`reason.${state.reason}`) })]),
		]),
		paragraph(say(online ? "review.not" : "offline.only")),
		more(say("review.show"), ready(state).map((file) => shown(app, file))),
		fingerprint(app),
		answers(
			online
				? button(say("review.send"), () => send(app), "main")
				: button(say("offline.save"), () => keep(app, 0), "main"),
			button(say("check.open"), () => go("check"), "quiet"),
		),
		row(button(say("back"), back, "quiet")),
	];
}

/** The fingerprints of one file, each with the name of the copy that it is of. */
function shown({ say }, { number, print: { signals } }) {
	const line = ({ value, quality, variant }) =>
		element("li", {}, code(variant, "b"), " ", say("review.quality", { quality }), element("br"), code(value));
	return more(
		say("review.file", { number, count: signals.length }),
		element("ol", { class: "prints" }, signals.map(line)),
	);
}

/** Save the fingerprints for a case, to be sent from the page on the internet; `part` counts cases. */
function keep(app, part) {
	const found = prints(app.state).slice(part * CASE_MAX, (part + 1) * CASE_MAX);
	save(part ? `notes-${part + 1}.json` : "notes.json", addingBody(found), SAVED);
	app.state.saved = part + 1;
	if (part) app.replace("saved");
	else app.go("saved");
}

export function saved(app) {
	const { say, state, back, startOver } = app;
	const parts = Math.ceil(prints(state).length / CASE_MAX);
	const more = state.saved < parts;
	return [
		title(say("offline.saved")),
		parts > 1 ? paragraph(say("offline.part", { number: state.saved, all: parts, most: CASE_MAX })) : null,
		paragraph(say("offline.next", { button: say("choose.saved") })),
		answers(
			more ? button(say("offline.more"), () => keep(app, state.saved), "main") : null,
			button(say("next.finish"), startOver, more ? "" : "main"),
		),
		row(button(say("back"), back, "quiet")),
	];
}

/**
 * Send once: in one request, or where videos make it too much for one, in several. The same key goes
 * with every further attempt of each, so that nothing is ever done twice.
 */
async function send(app) {
	const { state } = app;
	const parts = inParts(prints(state));
	const opens = (n) => !state.secret && n === 0;
	const body = (part, n) =>
		!part.prints ? partBody(part) : opens(n) ? openingBody(state.reason, part.prints) : addingBody(part.prints);
	const bodies = parts.map(body);
	if (String(state.sent?.bodies) !== String(bodies)) {
		state.sent = { bodies, keys: bodies.map(newKey), answers: [] };
	}
	const { keys, answers: got } = state.sent;
	app.go("sending");
	try {
		while (got.length < parts.length) {
			const n = got.length;
			const secret = state.secret ?? (n && { number: got[0].case, passphrase: got[0].passphrase });
			const part = parts[n];
			const item = part.prints ? null : got.flatMap(files)[part.file].item;
			got.push(
				await (opens(n)
					? sendOpening(app, part.prints, keys[n])
					: sendMore(app, (work, header) =>
							part.prints
								? addItems(secret, addingBody(part.prints, work), keys[n], header)
								: addSignals(secret, item, partBody(part, work), keys[n], header),
						)),
			);
			if (state !== app.state) return;
			const all = { ...got[0], expires: got[n].expires, items: got.flatMap(files) };
			if (state.secret) state.added = all;
			else state.receipt = all;
		}
		app.tell("");
		app.settle(state.secret ? "added" : "receipt");
	} catch (error) {
		if (state !== app.state) return;
		app.tell("");
		state.trouble = error.code ?? "internal_error";
		app.replace("notSent");
	}
}

/** The files that an answer tells of; further fingerprints are of a file that was told of before. */
const files = ({ items }) => items ?? [];

/** Open the case, with the work that was done meanwhile. */
async function sendOpening(app, found, key) {
	const { state, proof } = app;
	const send = (work) => openCase(openingBody(state.reason, found, work), key);
	const receipt = await proof.pay(send, tellingOfWork(app), await proof.take());
	proof.spend();
	return receipt;
}

const sendMore = (app, request) => app.proof.pay(request, tellingOfWork(app));

/** Make what says why she has to wait, while she does. */
export function tellingOfWork(app) {
	const { state } = app;
	return () => {
		if (state !== app.state) return false;
		app.tell(app.say("work.what"), true);
		return true;
	};
}

export function sending({ say }) {
	return [title(say("sending.title")), paragraph(say("sending.what"))];
}

export function notSent(app) {
	const { say, state, words, replace } = app;
	const known = `trouble.${state.trouble}` in words.catalogue;
	const begun = state.sent.answers.length > 0;
	return [
		title(say(begun ? "unsent.part" : "unsent.title")),
		paragraph(say(known ? `trouble.${state.trouble}` : "trouble.internal_error")),
		paragraph(say("unsent.safe")),
		answers(
			button(say("again"), () => send(app), "main"),
			state.receipt ? button(say("unsent.receipt"), () => app.settle("receipt")) : null,
		),
		// Where the outcome is not known, only the very same request may follow, or it could count twice.
		begun || UNKNOWN.includes(state.trouble) ? null : row(button(say("back"), () => replace("review"), "quiet")),
	];
}
