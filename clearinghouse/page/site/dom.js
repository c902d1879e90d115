// Elements of the page, built from text and never from markup.

/** @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Attributes may be listeners; false and null are omitted. @type {MakeElement} */
export function element(tag, attributes = {}, ...children) {
	const made = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (value === null || value === false) continue;
		if (typeof value === "function") made.addEventListener(name.slice(2), value);
		else made.setAttribute(name, value === true ? "" : value);
	}
	const shown = children.flat(9).filter((child) => child !== null && child !== false);
	made.append(.../** @type {Node[]} */ (shown));
	return made;
}

/** @param {string} text */
export const title = (text) => element("h1", { tabindex: "-1" }, text);
/** @param {string} text */
export const heading = (text) => element("h2", {}, text);
/** @param {string} text */
export const paragraph = (text, attributes = {}) => element("p", attributes, text);
/** @param {Child[]} items */
export const list = (items) => element("ul", {}, items.map((item) => element("li", {}, item)));
/** @returns {(...children: Child[]) => HTMLElement} */
const division = (kind) => (...children) => element("div", { class: kind }, children);
export const row = division("row screen-only");
export const box = division("box");
export const answers = division("answers");

/** @param {string} text @param {() => void} act */
export function button(text, act, kind = "") {
	return element("button", { type: "button", class: kind || null, onclick: act }, text);
}

/** @param {App} app @param {...Child} others */
export const backRow = ({ say, back }, ...others) => row(...others, button(say("back"), back, "quiet"));

export const SAVED = "application/json"; // the type of a file of fingerprints

/** The browser's own button for files has the browser's language. @type {MakePicker} */
export function picker(text, id, act, { kind = "", accept = "image/*,video/*", multiple = false } = {}) {
	const onchange = () => input.files && act(input.files);
	const input = element("input", { type: "file", hidden: true, id, accept, multiple, onchange });
	return [input, button(text, () => input.click(), kind)];
}

/** A link that sends the other site no referrer. @param {string} text @param {string} address */
export function link(text, address) {
	return element("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text);
}

/** @param {string} summary @param {...Child} children */
export function details(summary, ...children) {
	return element("details", {}, element("summary", {}, summary), children);
}

/** @param {string} name @param {string} text @param {string} type */
export function download(name, text, type) {
	const address = URL.createObjectURL(new Blob([text], { type }));
	element("a", { href: address, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Text that is left to right in every language. @param {string} text */
export function code(text, kind = /** @type {"code" | "b" | "span"} */ ("code")) {
	return element(kind, { dir: "ltr", translate: "no" }, text);
}
