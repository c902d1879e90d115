// Builds what the page shows, from text and never from markup.

/** Make an element. Attributes that begin with "on" are listeners; false and null are left out. */
export function element(tag, attributes = {}, ...children) {
	const made = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (value === null || value === false) continue;
		if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
		else made.setAttribute(name, value === true ? "" : value);
	}
	made.append(...children.flat(Infinity).filter((child) => child !== null && child !== false));
	return made;
}

export const title = (text) => element("h1", { tabindex: "-1" }, text);
export const heading = (text) => element("h2", {}, text);
export const paragraph = (text, attributes = {}) => element("p", attributes, text);
export const list = (items) => element("ul", {}, items.map((item) => element("li", {}, item)));
export const row = (...children) => element("div", { class: "row screen-only" }, children);
export const box = (...children) => element("div", { class: "box" }, children);

export function button(text, act, kind = "") {
	return element("button", { type: "button", class: kind || null, onclick: act }, text);
}

export const SAVED = "application/json"; // what fingerprints are saved as

/** A button that asks for files, since a browser's own button speaks the browser's language. */
export function picker(text, id, act, { kind = "", accept = "image/*,video/*", multiple = false } = {}) {
	const input = element("input", { type: "file", hidden: true, id, accept, multiple, onchange: () => act(input.files) });
	return [input, button(text, () => input.click(), kind)];
}

export function answers(...buttons) {
	return element("div", { class: "answers" }, buttons);
}

/** A link that tells the other site nothing of this one. */
export function link(text, address) {
	return element("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text);
}

export function more(summary, ...children) {
	return element("details", {}, element("summary", {}, summary), children);
}

/** Let a file be saved; its name says nothing of what it is. */
export function save(name, text, type) {
	const address = URL.createObjectURL(new Blob([text], { type }));
	element("a", { href: address, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Text that reads from left to right in every language, such as a case number. */
export function code(text, kind = "code") {
	return element(kind, { dir: "ltr", translate: "no" }, text);
}
