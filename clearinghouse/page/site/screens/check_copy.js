// "Would this copy be found?": a copy that she has, compared with her fingerprints. Nothing is sent.

import { addFile, readyFiles } from "./choose_files.js";
import { answers, backRow, box, button, byId, element, heading, paragraph, picker, SAVED, title } from "../dom.js";
import { distance, isUsable, pack } from "../worker/fingerprints.js";
import { readBody } from "../api.js";

const NEAR = 31; // bits in which two fingerprints of one picture differ at most: PDQ's threshold
const LOOKUP_VARIANTS = ["original", "trim"]; // what platforms hash of an upload

/** Return the hashes by which platforms would look a file up. */
function lookups({ pdq, quality, tied, signals }) {
	const whole = pdq && isUsable({ quality, tied }) ? [pdq] : [];
	const values = signals.filter(({ variant }) => LOOKUP_VARIANTS.includes(variant)).map(({ value }) => value);
	return [...new Set([...whole, ...values])].map(pack);
}

function compare(copy, files) {
	const known = files.map(({ number, item }) => ({ number, hashes: item.signals.map(({ value }) => pack(value)) }));
	const nearer = (one, other) => (other.bits < one.bits ? other : one);
	const nearest = lookups(copy).map((query) =>
		known
			.map(({ number, hashes }) => ({ number, bits: Math.min(...hashes.map((hash) => distance(query, hash))) }))
			.reduce(nearer),
	);
	const near = nearest.filter(({ bits }) => bits <= NEAR);
	const number = near.length ? near.reduce(nearer).number : null;
	return { copy, number, near: near.length, of: nearest.length };
}

/** Return her files, by their numbers in her case once she has one. @returns {KnownFile[]} */
const ownFiles = ({ checked, files, receipt }) =>
	checked.files ??
	readyFiles({ files }).map((file, n) => ({ ...file, number: receipt?.items[n]?.item ?? file.number }));

/** Draw the screen on which a copy is chosen and the answer appears. @param {App} app */
export function check(app) {
	const { say, state } = app;
	const { checked } = state;
	const files = ownFiles(state);
	const missing = !files.length;
	return [
		title(say("check.title")),
		paragraph(say("check.what")),
		paragraph(say("check.never")),
		checked.unread ? paragraph(say("choose.not_saved")) : null,
		paragraph(missing ? say("check.need") : say("check.against", { count: files.length }), { class: "hint" }),
		answers(
			missing
				? picker(say("choose.saved"), "kept", ([blob]) => readSaved(app, blob), { accept: SAVED, kind: "main" })
				: picker(say("check.choose"), "copy", ([blob]) => checkFile(app, blob), { kind: checked.answer ? "" : "main" }),
		),
		element("p", { class: "hint", id: "looking" }, checked.blob ? say("file.now") : ""),
		checked.answer ? box(outcome(app, checked.answer)) : null,
		backRow(app),
	];
}

async function readSaved(app, blob) {
	const { state } = app;
	const files = (await readBody(blob)).map((item, n) => ({ number: n + 1, item }));
	state.checked = { files: files.length ? files : null, unread: !files.length, blob: null, answer: null };
	if (state === app.state) app.show();
}

async function checkFile(app, blob) {
	const { state, say, words } = app;
	const { checked } = state;
	Object.assign(checked, { blob, answer: null });
	app.show();
	const progress = (share) => {
		const line = byId("looking");
		if (line && share) line.textContent = say("file.video", { share: words.percent.format(share) });
		return state === app.state && checked.blob === blob && app.screen === "check";
	};
	const { code, found } = await app.hasher.hash(blob, { progress, thorough: state.thorough });
	if (state !== app.state || checked.blob !== blob) return;
	checked.blob = null;
	checked.answer = code === "stopped" ? null : code ? { code } : { blob, ...compare(found, ownFiles(state)) };
	if (app.screen !== "check" || !checked.answer) return;
	app.show();
	app.announce(app.main.querySelector(".box").innerText);
}

/** @param {App} app @param {Comparison} answer */
function outcome(app, answer) {
	const { say, state } = app;
	const { blob, code, copy, number = null, near, of } = answer;
	if (code) return paragraph(say(`refused.${code}`));
	const moments = copy?.media === "video" ? paragraph(say("check.moments", { near, of })) : null;
	if (number !== null) {
		return [heading(say("check.found")), paragraph(say("check.like", { number })), moments, paragraph(say("check.then"))];
	}
	const add = () => {
		addFile(state, { blob, item: copy });
		state.checked.answer = null;
		app.show();
		app.announce(say("check.added"), true);
	};
	// nothing can be added to what was sent, or read from a saved file
	const canAdd = !state.checked.files && !state.sent;
	return [
		heading(say("check.lost")),
		moments,
		paragraph(say("check.changed")),
		paragraph(say("check.more")),
		canAdd ? button(say("check.add"), add) : null,
	];
}
