// The case that she holds: its number and passphrase, what became of it, and taking it back.

import { routes } from "./questions.js";
import { numbers, ready } from "./choose_files.js";
import { answers, box, button, code, element, heading, list, paragraph, row, save, title } from "../dom.js";
import { tellingOfWork } from "./send.js";
import { claimCase, newKey, readCase, withdraw } from "../api.js";

const VERDICTS = ["blocked", "not_blocked", "unsure", "pending"];

/** The only screen that ever shows the passphrase. */
export function receipt(app) {
	const { say, state, words } = app;
	const { case: number, passphrase, expires, items } = state.receipt;
	const kept = () => {
		state.kept = true;
	};
	// file names stay on the screen: they are neither printed nor saved
	const text = () =>
		[...app.main.querySelectorAll(".box :is(dt, dd, li, p)")].map((part) => part.firstChild.textContent).join("\n");
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
			numbers(app, items),
			paragraph(say("receipt.until", { date: words.date(expires) })),
			paragraph(location.origin, { dir: "ltr", class: "small" }),
		),
		ready(state).length > items.length ? paragraph(say("receipt.part", { count: ready(state).length - items.length })) : null,
		paragraph(say("receipt.care"), { class: "screen-only" }),
		row(
			button(say("receipt.print"), () => {
				kept();
				print();
			}),
			button(say("receipt.save"), () => {
				kept();
				save("notes.txt", text().replace(/[\u2068\u2069]/g, ""), "text/plain");
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

export function next(app) {
	const { say, state, words, back, go, startOver } = app;
	return [
		title(say("next.title")),
		list([
			say("next.platforms"),
			say("next.match"),
			say("next.visit", { date: words.date(state.receipt.expires) }),
		]),
		heading(say("next.also")),
		routes(app),
		answers(
			ready(state).length ? button(say("check.open"), () => go("check")) : null,
			button(say("help.title"), () => go("helplines")),
			button(say("next.finish"), startOver, "main"),
		),
		row(button(say("back"), back, "quiet")),
	];
}

/** A line of text to be typed; what was typed before stays. */
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

export function signIn(app) {
	const { say, state, back, go } = app;
	const { trouble } = state;
	const form = element(
		"form",
		{
			novalidate: true,
			onsubmit: (event) => {
				event.preventDefault();
				const [number, passphrase] = ["number", "passphrase"].map((id) => form.elements[id].value.trim());
				// what was typed stays for a second try, since one wrong letter in six words is easily made
				state.typed = { number, passphrase };
				if (number && passphrase) look(app, state.typed);
				else app.tell(say("trouble.credentials_missing"), true);
			},
		},
		field(app, "number", "receipt.number", "signIn.number"),
		field(app, "passphrase", "receipt.passphrase", "signIn.passphrase"),
		element("div", { class: "row" }, element("button", { class: "main" }, say("signIn.go"))),
	);
	Object.assign(state, { trouble: null, typed: null });
	return [
		title(say("signIn.title")),
		trouble ? box(paragraph(say(named(app, trouble)))) : null,
		form,
		paragraph(say("signIn.lost"), { class: "small" }),
		answers(button(say("claim.have"), () => go("claim"), "quiet")),
		row(button(say("back"), back, "quiet")),
	];
}

/** The screen on which somebody takes over a case that a helpline opened for them. */
export function claim(app) {
	const { say, state, back } = app;
	const { trouble } = state;
	const form = element(
		"form",
		{
			novalidate: true,
			onsubmit: (event) => {
				event.preventDefault();
				const code = form.elements.code.value.trim();
				if (code) takeOver(app, code);
				else app.tell(say("trouble.code_unknown"), true);
			},
		},
		field(app, "code", "claim.code", "claim.hint"),
		element("div", { class: "row" }, element("button", { class: "main" }, say("claim.go"))),
	);
	Object.assign(state, { trouble: null, typed: null });
	return [
		title(say("claim.title")),
		trouble ? box(paragraph(say(named(app, trouble)))) : null,
		paragraph(say("claim.what")),
		form,
		row(button(say("back"), back, "quiet")),
	];
}

/** Ask for the case behind a code; the same code goes under the same key, should an answer be lost. */
async function takeOver(app, code) {
	const { state } = app;
	if (state.sent?.body !== code) state.sent = { body: code, key: newKey() };
	state.typed = { code };
	app.replace("looking");
	try {
		state.receipt = await claimCase(code, state.sent.key);
		if (state !== app.state) return;
		app.settle("receipt");
	} catch (error) {
		if (state !== app.state) return;
		state.trouble = error.code ?? "internal_error";
		app.replace("claim");
		app.tell(app.say(named(app, error.code)));
	}
}

const named = ({ words }, trouble) =>
	`trouble.${trouble}` in words.catalogue ? `trouble.${trouble}` : "trouble.internal_error";

/** Do something with the case, then show it as it stands. */
async function look(app, secret, act = null, failed = "signIn") {
	const { state } = app;
	app.replace("looking");
	const pay = (send) => app.proof.pay((_, work) => send(work), tellingOfWork(app));
	try {
		if (act) await pay(act);
		state.status = await pay((work) => readCase(secret, work));
		if (state !== app.state) return;
		app.tell("");
		Object.assign(state, { secret, typed: null });
		app.settle("status");
	} catch (error) {
		if (state !== app.state) return;
		state.trouble = error.code ?? "internal_error";
		app.replace(failed);
		app.tell(app.say(named(app, error.code)));
	}
}

export const looking = ({ say }) => [title(say("looking.title")), paragraph(say("sending.what"))];

export function added(app) {
	const { say, state, words } = app;
	return [
		title(say("added.title")),
		numbers(app, state.added.items),
		paragraph(say("receipt.until", { date: words.date(state.added.expires) })),
		answers(button(say("added.status"), () => look(app, state.secret, null, "status"), "main")),
	];
}

export function status(app) {
	const { say, state, words, startOver } = app;
	const { state: standing, expires, opened, items } = state.status;
	const open = standing === "open";
	const { trouble } = state;
	state.trouble = null;
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
		trouble ? box(paragraph(say(named(app, trouble)))) : null,
		paragraph(say("status.opened", { date: words.date(opened) })),
		paragraph(say(`status.${standing}`, { date: words.date(expires) })),
		paragraph(say(items.some(({ platforms }) => platforms.length) ? "status.counts" : "status.nobody")),
		element("ul", { class: "files" }, items.map((item) => file(app, item, open, ask))),
		answers(
			open ? button(say("status.add"), more) : null,
			button(say("status.refresh"), () => look(app, state.secret, null, "status")),
			open ? button(say("status.withdraw"), () => ask(null)) : null,
			button(say("status.finish"), startOver, "main"),
		),
	];
}

function file({ say, words }, item, open, ask) {
	const { item: number, media, added: since, withdrawn, held_back: held, being_checked: checked, taken_out: by, platforms } = item;
	return element(
		"li",
		{},
		heading(say("status.file", { number, media: say(`media.${media}`) })),
		paragraph(say("status.added", { time: words.time(since) })),
		held && !checked && !withdrawn ? paragraph(say("status.held_back")) : null,
		checked && !withdrawn ? paragraph(say("status.being_checked", { count: checked, of: item.signals })) : null,
		withdrawn && !by ? paragraph(say("status.gone", { time: words.time(withdrawn) })) : null,
		by ? paragraph(say(`status.taken_out.${by}`)) : null,
		platforms.map((platform) => [
			element("h3", { dir: "auto" }, platform.platform),
			list(facts({ say, words }, platform, withdrawn)),
		]),
		open && !withdrawn ? button(say("status.withdraw_one", { number }), () => ask(number)) : null,
	);
}

/** Say what is known of a platform and a file, and that the rest is not known. */
function facts({ say, words }, platform, withdrawn) {
	const { follows, veiled, has_it_since: since, matches, verdicts, deletion_acknowledged: deleted } = platform;
	const known = [];
	if (!follows) known.push(say("platform.asks"));
	else if (since) known.push(say("platform.has", { time: words.time(since) }));
	else known.push(say("platform.unknown"));
	if (veiled) known.push(say("platform.part"));
	const counted = VERDICTS.filter((verdict) => verdicts[verdict]);
	if (matches) known.push(say("platform.matches", { count: matches }));
	else if (!counted.length) known.push(say(follows && !veiled ? "platform.silent" : "platform.none"));
	for (const verdict of counted) known.push(say(`verdict.${verdict}`, { count: verdicts[verdict] }));
	if (withdrawn && follows) {
		known.push(deleted ? say("platform.deleted", { time: words.time(deleted) }) : say("platform.not_deleted"));
	}
	return known;
}

/** Ask once more before one file, or everything, is taken back. */
export function withdrawal(app) {
	const { say, state, back } = app;
	const item = state.withdrawing;
	const kind = item === null ? "all" : "one";
	return [
		title(say(`withdraw.${kind}`, { number: item })),
		paragraph(say("withdraw.what")),
		paragraph(say("withdraw.memory")),
		paragraph(say(`withdraw.${kind}_after`)),
		answers(
			button(say("withdraw.yes"), () => look(app, state.secret, (work) => withdraw(state.secret, item, work), "status"), "main"),
			button(say("withdraw.no"), back),
		),
	];
}
