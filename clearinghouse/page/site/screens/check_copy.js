// "Would this copy be found?": a copy that she has, held against her fingerprints. Nothing is sent.

import { enlist, ready } from "./choose_files.js";
import { answers, box, button, element, heading, paragraph, picker, row, SAVED, title } from "../dom.js";
import { distance, packed, telling } from "../worker/fingerprints.js";
import { readBody } from "../api.js";

const NEAR = 31; // bits up to which platforms take two fingerprints for those of one picture
const LOOKED_UP = ["original", "trim"]; // of these copies platforms fingerprint what is uploaded

/** Give the fingerprints by which platforms would look a file up. */
function lookups({ pdq, quality, tied, signals }) {
	const whole = pdq && telling({ quality, tied }) ? [pdq] : [];
	const values = signals.filter(({ variant }) => LOOKED_UP.includes(variant)).map(({ value }) => value);
	return [...new Set([...whole, ...values])].map(packed);
}

/** Tell which of her files a copy comes nearest to, and how many of its moments come near enough. */
function compare(copy, files) {
	const known = files.map(({ number, print }) => ({ number, words: print.signals.map(({ value }) => packed(value)) }));
	const nearest = lookups(copy).map((asked) => {
		const found = known.map(({ number, words }) => ({ number, bits: Math.min(...words.map((w) => distance(asked, w))) }));
		return found.reduce((best, other) => (other.bits < best.bits ? other : best));
	});
	const near = nearest.filter(({ bits }) => bits <= NEAR);
	const best = near.length ? near.reduce((one, other) => (other.bits < one.bits ? other : one)) : null;
	return { copy, number: best?.number ?? null, near: near.length, of: nearest.length };
}

/** What a copy is held against, by the numbers that she knows: those of her case once she has one. */
const own = ({ checked, files, receipt }) =>
	checked.files ?? ready({ files }).map((file, n) => ({ ...file, number: receipt?.items[n]?.item ?? file.number }));

/** The screen on which a copy is chosen, and on which the answer appears. */
export function check(app) {
	const { say, state, back } = app;
	const { checked } = state;
	const files = own(state);
	const lacks = !files.length;
	return [
		title(say("check.title")),
		paragraph(say("check.what")),
		paragraph(say("check.never")),
		checked.unread ? paragraph(say("choose.not_saved")) : null,
		paragraph(lacks ? say("check.need") : say("check.against", { count: files.length }), { class: "hint" }),
		answers(
			lacks
				? picker(say("choose.saved"), "kept", ([blob]) => open(app, blob), { accept: SAVED, kind: "main" })
				: picker(say("check.choose"), "copy", ([blob]) => look(app, blob), { kind: checked.answer ? "" : "main" }),
		),
		element("p", { class: "hint", id: "looking" }, checked.blob ? say("file.now") : ""),
		checked.answer ? box(outcome(app, checked.answer)) : null,
		row(button(say("back"), back, "quiet")),
	];
}

async function open(app, blob) {
	const { state } = app;
	const files = (await readBody(blob)).map((print, n) => ({ number: n + 1, print }));
	state.checked = { files: files.length ? files : null, unread: !files.length };
	if (state === app.state) app.show();
}

async function look(app, blob) {
	const { state, say, words } = app;
	const { checked } = state;
	Object.assign(checked, { blob, answer: null });
	app.show();
	const progress = (share) => {
		const line = document.getElementById("looking");
		if (line && share) line.textContent = say("file.film", { share: words.percent.format(share) });
		return state === app.state && checked.blob === blob && app.name === "check";
	};
	const { code, found } = await app.hasher.hash(blob, { progress });
	if (state !== app.state || checked.blob !== blob) return;
	checked.blob = null;
	checked.answer = code === "stopped" ? null : code ? { code } : compare(found, own(state));
	if (app.name !== "check" || !checked.answer) return;
	app.show();
	app.tell(app.main.querySelector(".box").innerText);
}

function outcome(app, { code, copy, number, near, of }) {
	const { say, state } = app;
	if (code) return paragraph(say(`refused.${code}`));
	const moments = copy.media === "video" ? paragraph(say("check.moments", { near, of })) : null;
	if (number !== null) {
		return [heading(say("check.found")), paragraph(say("check.like", { number })), moments, paragraph(say("check.then"))];
	}
	const add = () => {
		enlist(state, { print: copy });
		state.checked.answer = null;
		app.show();
		app.tell(say("check.added"), true);
	};
	// what was sent, or only read from a file, is not added to here
	const adds = !state.checked.files && !state.sent;
	return [
		heading(say("check.lost")),
		moments,
		paragraph(say("check.changed")),
		paragraph(say("check.more")),
		adds ? button(say("check.add"), add) : null,
	];
}
