// The page: which screen is shown, how one leaves, and nothing kept anywhere but in this memory.

import * as asking from "./screens/questions.js";
import * as checking from "./screens/check_copy.js";
import * as choosing from "./screens/choose_files.js";
import { element } from "./dom.js";
import { Hasher } from "./worker_client.js";
import * as holding from "./screens/case.js";
import { Proof } from "./work_client.js";
import * as sending from "./screens/send.js";
import { LANGUAGES, Words } from "./i18n.js";

const ELSEWHERE = "https://www.wikipedia.org/"; // an everyday page, reached without a trace of this one
const SHIFTS = 3;
const SHIFT_PAUSE = 1000; // milliseconds between them

const SCREENS = { ...asking, ...checking, ...choosing, ...sending, ...holding };

// All that the page knows; forgetting replaces it.
const fresh = () => ({
	reason: null,
	files: [],
	count: 0,
	names: false,
	tooMany: false,
	notSaved: false,
	checked: {},
	saved: 0,
	busy: false,
	sent: null,
	receipt: null,
	kept: false,
	secret: null,
	status: null,
	typed: null,
	trouble: null,
});

class App {
	constructor(words, proof) {
		this.words = words;
		this.hasher = new Hasher();
		this.proof = proof;
		this.main = document.getElementById("main");
		this.news = document.getElementById("news");
		this.say = (key, values) => this.words.say(key, values);
		this.go = (name) => {
			this.trail.push(this.name);
			this.replace(name);
		};
		this.back = () => this.replace(this.trail.pop() ?? "start");
		this.begin = () => {
			this.forget();
			this.proof.begin();
			this.go("adult");
		};
		this.checkCopy = () => {
			this.forget();
			this.go("check");
		};
		this.startOver = () => {
			this.forget();
			this.replace("start");
		};
		this.replace = (name) => {
			this.name = name;
			this.show();
			window.scrollTo(0, 0);
			this.main.querySelector("h1").focus({ preventScroll: true });
		};
		this.forget();
	}

	/** Go to a screen from which there is no way back. */
	settle(name) {
		this.trail = [];
		this.replace(name);
	}

	/** Draw the screen as things stand; the focus stays on the control that was used. */
	show() {
		const { documentElement, activeElement } = document;
		documentElement.lang = this.words.language;
		documentElement.dir = this.words.direction;
		const place = [...this.main.querySelectorAll("button, input, summary")].indexOf(activeElement);
		this.main.replaceChildren(...SCREENS[this.name](this).flat(Infinity).filter(Boolean));
		if (place >= 0) {
			const controls = [...this.main.querySelectorAll("button, input, summary")];
			(controls[place]?.disabled === false ? controls[place] : this.main.querySelector("h1")).focus();
		}
	}

	/** Say something to a screen reader; `loud` also writes it where everybody sees it. */
	tell(text, loud = false) {
		this.news.textContent = text;
		this.news.classList.toggle("unseen", !loud);
	}

	forget() {
		this.hasher.stop();
		this.proof.stop();
		this.state = fresh();
		this.trail = [];
		this.tell("");
	}

	leave() {
		this.forget();
		document.body.replaceChildren();
		location.replace(ELSEWHERE);
	}
}

function chooseLanguage(app) {
	const choice = element(
		"select",
		{
			id: "languages",
			onchange: async () => {
				app.words = await Words.load(choice.value).catch(() => app.words);
				header(app);
				app.show();
				document.getElementById("languages").focus();
			},
		},
		Object.entries(LANGUAGES).map(([language, name]) =>
			element("option", { value: language, lang: language, selected: language === app.words.language }, name),
		),
	);
	return element("label", {}, element("span", { class: "unseen" }, app.say("language")), choice);
}

function header(app) {
	document.getElementById("language").replaceChildren(chooseLanguage(app));
	document.getElementById("exit").textContent = app.say("exit");
}

function listenForLeaving(app) {
	let shifts = 0;
	let last = 0;
	document.getElementById("exit").addEventListener("click", () => app.leave());
	document.addEventListener("keydown", ({ key, repeat, timeStamp, target }) => {
		// in the list of languages, Escape closes the list
		if (key === "Escape" && target.localName !== "select") app.leave();
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
	// What a browser keeps of a left page, to come back to it quickly, must be empty.
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

const proof = new Proof();
proof.ask();
const app = new App(await Words.load().catch(() => Words.load("en")), proof);
header(app);
listenForLeaving(app);
app.replace("start");
