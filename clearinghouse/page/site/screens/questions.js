// The questions, one on a screen, and the screens for those whom this service cannot help.

import { online } from "../build_flags.js";
import { answers, box, button, element, heading, link, list, more, paragraph, row, title } from "../dom.js";

const HELPLINES = [
	["help.uk", "Revenge Porn Helpline", "https://revengepornhelpline.org.uk/"],
	["help.us", "Cyber Civil Rights Initiative", "https://cybercivilrights.org/"],
	["help.au", "eSafety Commissioner", "https://www.esafety.gov.au/"],
	["help.world", "StopNCII.org", "https://stopncii.org/"],
];
const REASONS = ["threatened", "shared", "precaution", "synthetic"];

export function start({ say, go, begin, checkCopy }) {
	return [
		title(say("start.title")),
		paragraph(say("start.what")),
		paragraph(say("start.kind")),
		online ? null : box(paragraph(say("offline.what"))),
		box(
			heading(say("start.safety")),
			list([say("start.safety.device"), say("start.safety.leave"), say("start.safety.danger")]),
		),
		answers(
			button(say("start.go"), begin, "main"),
			online ? button(say("start.have"), () => go("signIn")) : null,
			button(say("check.open"), checkCopy, "quiet"),
			button(say("help.title"), () => go("helplines"), "quiet"),
		),
	];
}

/** Ask a question that is answered by a button. */
function question({ say, back }, name, ...choices) {
	return [
		title(say(`${name}.title`)),
		paragraph(say(`${name}.hint`), { class: "hint" }),
		answers(choices.map(([answer, act]) => button(say(`${name}.${answer}`), act))),
		row(button(say("back"), back, "quiet")),
	];
}

export const adult = (app) =>
	question(app, "adult", ["yes", () => app.go("depicted")], ["no", () => app.go("under18")]);

export const depicted = (app) =>
	question(app, "depicted", ["yes", () => app.go("having")], ["no", () => app.go("someoneElse")]);

export const having = (app) =>
	question(app, "having", ["yes", () => app.go("reason")], ["no", () => app.go("withoutFile")]);

export const reason = (app) =>
	question(
		app,
		"reason",
		...REASONS.map((choice) => [
			choice,
			() => {
				app.state.reason = choice;
				app.go("choose");
			},
		]),
	);

function ending({ say, back, go }, name, ...middle) {
	return [
		title(say(`${name}.title`)),
		middle,
		row(button(say("back"), back), button(say("help.title"), () => go("helplines"), "quiet")),
	];
}

export function under18(app) {
	const { say } = app;
	return ending(
		app,
		"under18",
		paragraph(say("under18.what")),
		list([
			[link("Take It Down", "https://takeitdown.ncmec.org/"), element("br"), say("under18.world")],
			[link("Report Remove", "https://www.childline.org.uk/remove"), element("br"), say("under18.uk")],
		]),
		paragraph(say("under18.never")),
		paragraph(say("under18.nothing")),
	);
}

export function someoneElse(app) {
	const { say } = app;
	return ending(
		app,
		"else",
		paragraph(say("else.why")),
		paragraph(say("else.what")),
		paragraph(say("else.never")),
	);
}

export function withoutFile(app) {
	const { say } = app;
	return ending(app, "without", paragraph(say("without.never")), routes(app), paragraph(say("without.later")));
}

/** What helps beside this service: reports, the 48 hours, search engines. */
export function routes({ say }) {
	return list([say("routes.report"), say("routes.hours"), say("routes.search"), say("routes.help")]);
}

export function helplines(app) {
	const { say, back } = app;
	return [
		title(say("help.title")),
		paragraph(say("help.what")),
		list(HELPLINES.map(([words, name, address]) => [link(name, address), element("br"), say(words)])),
		paragraph(say("help.danger")),
		row(button(say("back"), back)),
	];
}

/** What a fingerprint is, and what it is not. */
export function fingerprint({ say }) {
	return more(
		say("print.title"),
		paragraph(say("print.what")),
		paragraph(say("print.not")),
		paragraph(say("print.misses")),
	);
}
