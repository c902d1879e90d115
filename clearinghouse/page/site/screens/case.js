// Her case: its number and passphrase, what platforms did, and withdrawing it.

import { otherSteps } from "./questions.js";
import { fileNumbers, readyFiles } from "./choose_files.js";
import { answers, backRow, box, button, code, download, element, heading, list, paragraph, row, title } from "../dom.js";
import { announceWork, problemText } from "./send.js";
import { claimCase, codeOf, newKey, readCase, withdraw } from "../api.js";

const VERDICTS = ["blocked", "not_blocked", "unsure", "pending"];

/** Draw the only screen that ever shows the passphrase. @param {App} app */
export function receipt(app) {
	const { say, state, words } = app;
	const { case: number, passphrase, expires, items } = /** @type {Receipt} */ (state.receipt);
	const missing = readyFiles(state).length - items.length;
	const kept = () => {
		state.kept = true;
	};
	// file names stay on the screen: they are neither printed nor saved
	const text = () =>
		[...app.main.querySelectorAll(".box :is(dt, dd, li, p)")].map((part) => part.firstChild?.textContent).join("\n");
	return [
		title(say("receipt.title")),
		paragraph(say("receipt.keep")),
		box(
			element(
				"dl",
				{},
				element("dt", {}, say("receipt.number")),
				element("dd", { class: "secret" }, code(number, "span")),
				element("dt", {}, say("receipt.passphrase")),
				element("dd", { class: "secret" }, code(passphrase, "span")),
			),
			fileNumbers(app, items),
			paragraph(say("receipt.until", { date: words.date(expires) })),
			paragraph(location.origin, { dir: "ltr", class: "small" }),
		),
		missing > 0 ? paragraph(say("receipt.part", { count: missing })) : null,
		paragraph(say("receipt.care"), { class: "screen-only" }),
		row(
			button(say("receipt.print"), () => {
				kept();
				print();
			}),
			button(say("receipt.save"), () => {
				kept();
				download("notes.txt", text().replace(/[\u2068\u2069]/g, ""), "text/plain");
			}),
		),
		answers(
			button(
				say("receipt.done"),
				() => {
					kept();
					app.go("next");
				},
				"main",
			),
		),
	];
}

/** @param {App} app */
export function next(app) {
	const { say, state, words, go, startOver } = app;
	const { expires } = /** @type {Receipt} */ (state.receipt);
	return [
		title(say("next.title")),
		list([say("next.platforms"), say("next.match"), say("next.visit", { date: words.date(expires) })]),
		heading(say("next.also")),
		otherSteps(app),
		answers(
			readyFiles(state).length ? button(say("check.open"), () => go("check")) : null,
			button(say("help.title"), () => go("helplines")),
			button(say("next.finish"), startOver, "main"),
		),
		backRow(app),
	];
}

const field = ({ say, state }, id, label, hint) => [
	element("label", { for: id }, say(label)),
	element("p", { class: "hint small", id: `${id}-hint` }, say(hint)),
	element("input", {
		type: "text",
		id,
		dir: "ltr",
		required: true,
		autocomplete: "off",
		autocapitalize: "none",
		autocorrect: "off",
		spellcheck: "false",
		"aria-describedby": `${id}-hint`,
		value: state.typed?.[id] ?? null,
	}),
];

/** Return a form of fields `[id, label, hint]`; `submit` receives what was typed. */
function formOf(app, fields, label, submit) {
	const typed = (id) => /** @type {HTMLInputElement} */ (form.elements.namedItem(id)).value.trim();
	const form = element(
		"form",
		{
			novalidate: true,
			onsubmit: (event) => {
				event.preventDefault();
				submit(...fields.map(([id]) => typed(id)));
			},
		},
		fields.map(([id, label, hint]) => field(app, id, label, hint)),
		element("div", { class: "row" }, element("button", { class: "main" }, app.say(label))),
	);
	return form;
}

/** Return a box with the last problem, which is shown once. */
function problemBox(app) {
	const { problem } = app.state;
	app.state.problem = null;
	return problem ? box(paragraph(problemText(app, problem))) : null;
}

/** @param {App} app */
export function signIn(app) {
	const { say, state, go } = app;
	const fields = [
		["number", "receipt.number", "signIn.number"],
		["passphrase", "receipt.passphrase", "signIn.passphrase"],
	];
	const form = formOf(app, fields, "signIn.go", (number, passphrase) => {
		// kept for another try: one wrong letter is easily typed
		state.typed = { number, passphrase };
		if (number && passphrase) showCase(app, { number, passphrase });
		else app.announce(say("error.credentials_missing"), true);
	});
	state.typed = null;
	return [
		title(say("signIn.title")),
		problemBox(app),
		form,
		paragraph(say("signIn.lost"), { class: "small" }),
		answers(button(say("claim.have"), () => go("claim"), "quiet")),
		backRow(app),
	];
}

/** Draw the screen to take over a case that a helpline opened. @param {App} app */
export function claim(app) {
	const { say, state } = app;
	const form = formOf(app, [["code", "claim.code", "claim.hint"]], "claim.go", (code) => {
		if (code) takeOver(app, code);
		else app.announce(say("error.code_unknown"), true);
	});
	state.typed = null;
	return [
		title(say("claim.title")),
		problemBox(app),
		paragraph(say("claim.what")),
		form,
		backRow(app),
	];
}

/** Claim a case. After a lost answer, the same code keeps its idempotency key. */
async function takeOver(app, code) {
	const { state } = app;
	if (state.claimed?.code !== code) state.claimed = { code, key: newKey() };
	state.typed = { code };
	app.replace("loading");
	try {
		state.receipt = await claimCase(code, state.claimed.key);
		if (state !== app.state) return;
		app.settle("receipt");
	} catch (error) {
		showProblem(app, state, error, "claim");
	}
}

function showProblem(app, state, error, screen) {
	if (state !== app.state) return;
	const code = codeOf(error);
	state.problem = code;
	app.replace(screen);
	app.announce(problemText(app, code));
}

/** Change the case, if asked to, then show it. */
async function showCase(app, secret, change = /** @type {Function?} */ (null), failed = "signIn") {
	const { state } = app;
	app.replace("loading");
	const send = (request) => app.proof.send((_, work) => request(work), announceWork(app));
	try {
		if (change) await send(change);
		state.status = await send((work) => readCase(secret, work));
		if (state !== app.state) return;
		app.announce("");
		Object.assign(state, { secret, typed: null });
		app.settle("status");
	} catch (error) {
		showProblem(app, state, error, failed);
	}
}

/** @param {App} app */
export const loading = ({ say }) => [title(say("looking.title")), paragraph(say("sending.what"))];

/** @param {App} app */
export function added(app) {
	const { say, state, words } = app;
	const { expires, items } = /** @type {Receipt} */ (state.added);
	return [
		title(say("added.title")),
		fileNumbers(app, items),
		paragraph(say("receipt.until", { date: words.date(expires) })),
		answers(button(say("added.status"), () => showCase(app, state.secret, null, "status"), "main")),
	];
}

/** @param {App} app */
export function status(app) {
	const { say, state, words, startOver } = app;
	const { state: caseState, expires, opened, items } = /** @type {CaseStatus} */ (state.status);
	const open = caseState === "open";
	const ask = (item) => {
		state.withdrawing = item;
		app.go("withdrawal");
	};
	const more = () => {
		Object.assign(state, { files: [], count: 0, tooMany: false });
		app.go("choose");
	};
	return [
		title(say("status.title")),
		problemBox(app),
		paragraph(say("status.opened", { date: words.date(opened) })),
		paragraph(say(`status.${caseState}`, { date: words.date(expires) })),
		paragraph(say(items.some(({ platforms }) => platforms.length) ? "status.counts" : "status.nobody")),
		element("ul", { class: "files" }, items.map((item) => itemStatus(app, item, open, ask))),
		answers(
			open ? button(say("status.add"), more) : null,
			button(say("status.refresh"), () => showCase(app, state.secret, null, "status")),
			open ? button(say("status.withdraw"), () => ask(null)) : null,
			button(say("status.finish"), startOver, "main"),
		),
	];
}

function itemStatus(app, item, open, ask) {
	const { say, words } = app;
	const { item: number, withdrawn, being_checked: count, taken_out: by } = item;
	return element(
		"li",
		{},
		heading(say("status.file", { number, media: say(`media.${item.media}`) })),
		paragraph(say("status.added", { time: words.time(item.added) })),
		item.held_back && !count && !withdrawn ? paragraph(say("status.held_back")) : null,
		count && !withdrawn ? paragraph(say("status.being_checked", { count, of: item.signals })) : null,
		withdrawn && !by ? paragraph(say("status.gone", { time: words.time(withdrawn) })) : null,
		by ? paragraph(say(`status.taken_out.${by}`)) : null,
		item.platforms.map((platform) => [
			element("h3", { dir: "auto" }, platform.platform),
			list(platformFacts(app, platform, withdrawn)),
		]),
		open && !withdrawn ? button(say("status.withdraw_one", { number }), () => ask(number)) : null,
	);
}

/** Return what is known, and that the rest is not known. */
function platformFacts({ say, words }, platform, withdrawn) {
	const { follows, veiled, has_it_since: since, matches, verdicts, deletion_acknowledged: deleted } = platform;
	const facts = [];
	if (!follows) facts.push(say("platform.asks"));
	else if (since) facts.push(say("platform.has", { time: words.time(since) }));
	else facts.push(say("platform.unknown"));
	if (veiled) facts.push(say("platform.part"));
	const counted = VERDICTS.filter((verdict) => verdicts[verdict]);
	if (matches) facts.push(say("platform.matches", { count: matches }));
	else if (!counted.length) facts.push(say(follows && !veiled ? "platform.silent" : "platform.none"));
	for (const verdict of counted) facts.push(say(`verdict.${verdict}`, { count: verdicts[verdict] }));
	if (withdrawn && follows) {
		facts.push(deleted ? say("platform.deleted", { time: words.time(deleted) }) : say("platform.not_deleted"));
	}
	return facts;
}

/** Draw the question before one file, or everything, is withdrawn. @param {App} app */
export function withdrawal(app) {
	const { say, state, back } = app;
	const item = state.withdrawing;
	const kind = item === null ? "all" : "one";
	const secret = /** @type {Secret} */ (state.secret);
	return [
		title(say(`withdraw.${kind}`, { number: item })),
		paragraph(say("withdraw.what")),
		paragraph(say("withdraw.memory")),
		paragraph(say(`withdraw.${kind}_after`)),
		answers(
			button(say("withdraw.yes"), () => showCase(app, secret, (work) => withdraw(secret, item, work), "status"), "main"),
			button(say("withdraw.no"), back),
		),
	];
}
