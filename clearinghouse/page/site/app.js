// The page: which screen is shown and how she leaves. Its state is kept in memory only.

import { added, claim, loading, next, receipt, signIn, status, withdrawal } from "./screens/case.js";
import { check } from "./screens/check_copy.js";
import { choose } from "./screens/choose_files.js";
import {
	adult, depicted, having, helplines, reason, someoneElse, start, under18, withoutFile,
} from "./screens/questions.js";
import { notSent, review, saved, sending } from "./screens/send.js";
import { byId, element } from "./dom.js";
import { Hasher } from "./worker_client.js";
import { ProofOfWork } from "./work_client.js";
import { LANGUAGES, Words } from "./i18n.js";

const ELSEWHERE = "https://www.wikipedia.org/"; // an everyday page
const SHIFTS = 3;
const SHIFT_PAUSE = 1000; // milliseconds between two at most

/** The function that draws each screen. @type {Record<string, Render>} */
export const SCREENS = {
	start,
	adult,
	under18,
	depicted,
	someoneElse,
	having,
	withoutFile,
	reason,
	helplines,
	choose,
	check,
	review,
	saved,
	sending,
	notSent,
	receipt,
	next,
	signIn,
	claim,
	loading,
	status,
	added,
	withdrawal,
};

/** The keys of the state that a screen needs. @type {Record<string, (keyof State)[]>} */
export const NEEDS = {
	notSent: ["sent", "problem"],
	receipt: ["receipt"],
	next: ["receipt"],
	status: ["status", "secret"],
	added: ["added", "secret"],
	withdrawal: ["status", "secret"],
};

/** Return all that the page knows about her. @returns {State} */
export const initialState = () => ({
	reason: null,
	files: [],
	count: 0,
	names: false,
	thorough: false,
	tooMany: false,
	notSaved: false,
	checked: { files: null, unread: false, blob: null, answer: null },
	saved: 0,
	busy: false,
	sent: null,
	claimed: null,
	receipt: null,
	kept: false,
	secret: null,
	status: null,
	added: null,
	withdrawing: null,
	typed: null,
	problem: null,
});

export class App {
	main = byId("main");
	news = byId("news");
	hasher = new Hasher();
	screen = "start";
	/** The screens that `back` returns to. @type {string[]} */
	trail = [];
	state = initialState();
	/** Draws a file on the list, or its progress; set by its screen. @type {DrawFile} */
	fileChanged = () => {};
	/** @type {DrawFile} */
	fileProgress = () => {};

	/** @param {Words} words @param {ProofOfWork} proof */
	constructor(words, proof) {
		this.words = words;
		this.proof = proof;
	}

	// arrow functions, since screens destructure the app
	/** @type {Say} */
	say = (key, values) => this.words.say(key, values);
	/** @param {string} name */
	go = (name) => {
		this.trail.push(this.screen);
		this.replace(name);
	};
	back = () => this.replace(this.trail.pop() ?? "start");
	begin = () => {
		this.forget();
		this.proof.start();
		this.go("adult");
	};
	checkCopy = () => {
		this.forget();
		this.go("check");
	};
	startOver = () => {
		this.forget();
		this.replace("start");
	};
	/** Show a screen, or the first if the state lacks what it needs. @param {string} name */
	replace = (name) => {
		this.screen = NEEDS[name]?.some((key) => this.state[key] === null) ? "start" : name;
		this.show();
		window.scrollTo(0, 0);
		this.heading().focus({ preventScroll: true });
	};

	/** Show a screen from which there is no way back. @param {string} name */
	settle(name) {
		this.trail = [];
		this.replace(name);
	}

	/** Draw the screen; the focus stays on the control that was used. */
	show() {
		const { documentElement, activeElement } = document;
		documentElement.lang = this.words.language;
		documentElement.dir = this.words.direction;
		const index = this.controls().indexOf(/** @type {HTMLButtonElement} */ (activeElement));
		const children = SCREENS[this.screen](this).flat(9).filter(Boolean);
		this.main.replaceChildren(.../** @type {Node[]} */ (children));
		if (index >= 0) {
			const control = this.controls()[index];
			(control?.disabled === false ? control : this.heading()).focus();
		}
	}

	controls() {
		return /** @type {HTMLButtonElement[]} */ ([...this.main.querySelectorAll("button, input, summary")]);
	}

	heading() {
		return /** @type {HTMLElement} */ (this.main.querySelector("h1"));
	}

	/** Announce a text to screen readers, or to everybody. @param {string} text */
	announce(text, visible = false) {
		this.news.textContent = text;
		this.news.classList.toggle("unseen", !visible);
	}

	forget() {
		this.hasher.stop();
		this.proof.stop();
		this.state = initialState();
		this.trail = [];
		this.announce("");
	}

	leave() {
		this.forget();
		document.body.replaceChildren();
		location.replace(ELSEWHERE);
	}
}

function languageMenu(app) {
	const menu = element(
		"select",
		{
			id: "languages",
			"aria-label": app.say("language"),
			onchange: async () => {
				app.words = await Words.load(menu.value).catch(() => app.words);
				drawHeader(app);
				app.show();
				byId("languages").focus();
			},
		},
		Object.entries(LANGUAGES).map(([language, name]) =>
			element("option", { value: language, lang: language, selected: language === app.words.language }, name),
		),
	);
	return menu;
}

function drawHeader(app) {
	byId("language").replaceChildren(languageMenu(app));
	byId("exit").textContent = app.say("exit");
}

function addListeners(app) {
	let shifts = 0;
	let last = 0;
	byId("exit").addEventListener("click", () => app.leave());
	document.addEventListener("keydown", ({ key, repeat, timeStamp, target }) => {
		// in the list of languages, Escape closes the list
		if (key === "Escape" && !(target instanceof HTMLSelectElement)) app.leave();
		if (key !== "Shift") shifts = 0;
		else if (!repeat) {
			shifts = timeStamp - last > SHIFT_PAUSE ? 1 : shifts + 1;
			last = timeStamp;
			if (shifts === SHIFTS) app.leave();
		}
	});
	// A passphrase is shown once: ask before an accident takes it away. Exit never asks.
	window.addEventListener("beforeunload", (event) => {
		if (app.state.receipt && !app.state.kept) event.preventDefault();
	});
	// A browser may keep a left page, to return to it quickly: it must be empty.
	window.addEventListener("pagehide", () => {
		app.forget();
		app.main.replaceChildren();
	});
	window.addEventListener("pageshow", ({ persisted }) => {
		if (persisted) app.replace("start");
	});
	for (const kind of ["dragover", "drop"]) {
		window.addEventListener(kind, (event) => event.preventDefault());
	}
}

const proof = new ProofOfWork();
proof.fetchChallenge();
const app = new App(await Words.load().catch(() => Words.load("en")), proof);
drawHeader(app);
addListeners(app);
app.replace("start");
