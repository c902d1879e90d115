// The page's texts: one JSON catalogue for each language, fetched once and kept in memory only.

import { catalogue } from "./build_flags.js";

export const LANGUAGES = {
	en: "English",
	es: "Español",
	pt: "Português",
	fr: "Français",
	ar: "العربية",
	ur: "اردو",
	hi: "हिन्दी",
};
const RIGHT_TO_LEFT = ["ar", "ur"];

export class Words {
	/** @param {string} language @param {Record<string, string>} catalogue */
	constructor(language, catalogue) {
		this.language = language;
		this.direction = RIGHT_TO_LEFT.includes(language) ? "rtl" : "ltr";
		this.catalogue = catalogue;
		this.day = new Intl.DateTimeFormat(language, { dateStyle: "long" });
		this.hour = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
		this.percent = new Intl.NumberFormat(language, { style: "percent" });
		this.number = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
	}

	/** Fetch a language, by default the browser's. */
	static async load(language = preferred()) {
		return new Words(language, await catalogue(language));
	}

	/** Return a text; values are isolated from its direction. @type {Say} */
	say(key, values = {}) {
		const text = this.catalogue[key] ?? key;
		return text.replace(/\{(\w+)\}/g, (_, name) => `\u2068${values[name]}\u2069`);
	}

	/** @param {string} time */
	date(time) {
		return this.day.format(new Date(time));
	}

	/** @param {string} time */
	time(time) {
		return this.hour.format(new Date(time));
	}
}

function preferred() {
	const wanted = navigator.languages.map((tag) => tag.split("-")[0].toLowerCase());
	return wanted.find((language) => language in LANGUAGES) ?? "en";
}
