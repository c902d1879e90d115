// The questions, one on each screen, and the screens for people whom this service cannot help.

import { online } from "../build_flags.js";
import { answers, backRow, box, button, details, element, heading, link, list, paragraph, row, title } from "../dom.js";

const HELPLINES = [
	["help.uk", "Revenge Porn Helpline", "https://revengepornhelpline.org.uk/"],
	["help.us", "Cyber Civil Rights Initiative", "https://cybercivilrights.org/"],
	["help.au", "eSafety Commissioner", "https://www.esafety.gov.au/"],
	["help.world", "StopNCII.org", "https://stopncii.org/"],
];
const REASONS = ["threatened", "shared", "precaution", "synthetic"];

/** @param {App} app */
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

function question(app, name, ...choices) {
	const { say } = app;
	return [
		title(say(`${name}.title`)),
		paragraph(say(`${name}.hint`), { class: "hint" }),
		answers(choices.map(([answer, act]) => button(say(`${name}.${answer}`), act))),
		backRow(app),
	];
}

/** @returns {Render} */
const yesNo = (name, yes, no) => (app) =>
	question(app, name, ["yes", () => app.go(yes)], ["no", () => app.go(no)]);

export const adult = yesNo("adult", "depicted", "under18");
export const depicted = yesNo("depicted", "having", "someoneElse");
export const having = yesNo("having", "reason", "withoutFile");

/** @param {App} app */
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

function ending({ say, back, go }, name, ...content) {
	return [
		title(say(`${name}.title`)),
		content,
		row(button(say("back"), back), button(say("help.title"), () => go("helplines"), "quiet")),
	];
}

/** @param {App} app */
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

/** @param {App} app */
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

/** @param {App} app */
export function withoutFile(app) {
	const { say } = app;
	return ending(app, "without", paragraph(say("without.never")), otherSteps(app), paragraph(say("without.later")));
}

/** @param {App} app */
export function otherSteps({ say }) {
	return list([say("routes.report"), say("routes.hours"), say("routes.search"), say("routes.help")]);
}

/** @param {App} app */
export function helplines({ say, back }) {
	return [
		title(say("help.title")),
		paragraph(say("help.what")),
		list(HELPLINES.map(([country, name, address]) => [link(name, address), element("br"), say(country)])),
		paragraph(say("help.danger")),
		row(button(say("back"), back)),
	];
}

/** @param {App} app */
export function aboutFingerprints({ say }) {
	return details(
		say("print.title"),
		paragraph(say("print.what")),
		paragraph(say("print.not")),
		paragraph(say("print.misses")),
	);
}
