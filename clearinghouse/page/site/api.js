// Everything that this page ever says to a server, all of it to its own.

const SECONDS = 60;
const PATIENCE = 3; // times that a busy service is asked again
const AT_ONCE = 8000; // fingerprints in one request; the service takes 2 MiB, which are 14,000

/** An answer that is no success; `code` names the sentence that she reads. */
export class Trouble extends Error {
	constructor(code) {
		super(code);
		this.code = code;
	}
}

/** Make the mark by which the service knows a request that is sent again: 128 random bits. */
export function newKey() {
	return Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");
}

const hex = (byte) => byte.toString(16).padStart(2, "0");

/** A case's number and passphrase, as the service wants to hear them. */
function authorization({ number, passphrase }) {
	const bytes = new TextEncoder().encode(`${number}:${passphrase}`);
	return `Case ${btoa(String.fromCharCode(...bytes))}`;
}

const items = (prints) =>
	prints.map(({ media, signals }) => ({ media, signals: signals.map((signal) => ({ type: "pdq", ...signal })) }));

/** Divide files among requests, since videos have many fingerprints. */
export function inParts(prints) {
	const parts = [[]];
	let count = 0;
	for (const print of prints) {
		count += print.signals.length;
		if (count > AT_ONCE && parts.at(-1).length) {
			parts.push([]);
			count = print.signals.length;
		}
		parts.at(-1).push(print);
	}
	return parts;
}

/** Write the body that opens a case. With the proof of work it is the whole of what is sent. */
export function openingBody(reason, prints, work = null) {
	const declaration = { adult: true, depicted: true };
	return JSON.stringify({ declaration, reason, work, items: items(prints) });
}

export function addingBody(prints) {
	return JSON.stringify({ items: items(prints) });
}

/** Read a file that holds such a body: the fingerprints in it, or none where it is something else. */
export async function readBody(blob) {
	try {
		return JSON.parse(await blob.text()).items.map(({ media, signals }) => {
			const read = signals.filter(sound).map(({ value, quality, variant }) => ({ value, quality, variant }));
			if (read.length !== signals.length || !read.length) throw new Trouble("not_saved");
			return { media: media === "video" ? "video" : "image", signals: read };
		});
	} catch {
		return [];
	}
}

const sound = ({ type, value, quality, variant }) =>
	type === "pdq" &&
	/^[0-9a-f]{64}$/.test(value) &&
	Number.isInteger(quality) &&
	quality >= 50 &&
	quality <= 100 &&
	/^[a-z0-9-]{1,20}$/.test(variant);

export const askForWork = () => ask("GET", "/v1/work", {});
export const openCase = (body, key) => ask("POST", "/v1/cases", { body, key });
export const addItems = (secret, body, key) => ask("POST", "/v1/case/items", { secret, body, key });
export const claimCase = (code, key) => ask("POST", "/v1/claim", { body: JSON.stringify({ code }), key });
export const readCase = (secret) => ask("GET", "/v1/case", { secret });
export const withdraw = (secret, item) =>
	ask("DELETE", item === null ? "/v1/case" : `/v1/case/items/${item}`, { secret });

async function ask(method, path, { body = null, key = null, secret = null }, tries = PATIENCE) {
	const headers = {};
	if (body !== null) headers["Content-Type"] = "application/json";
	if (key !== null) headers["Idempotency-Key"] = key;
	if (secret !== null) headers.Authorization = authorization(secret);
	let reply;
	let answer;
	try {
		reply = await fetch(path, {
			method,
			headers,
			body,
			credentials: "omit",
			cache: "no-store",
			redirect: "error",
			referrerPolicy: "no-referrer",
			signal: AbortSignal.timeout(SECONDS * 1000),
		});
		answer = await reply.json();
	} catch {
		throw new Trouble("offline");
	}
	if (reply.ok) return answer;
	if ([429, 503].includes(reply.status)) {
		if (tries === 0) throw new Trouble("busy");
		const wait = Math.min(Number(reply.headers.get("Retry-After")) || 2, 10);
		await new Promise((resolve) => setTimeout(resolve, wait * 1000));
		return ask(method, path, { body, key, secret }, tries - 1);
	}
	throw new Trouble(answer.code ?? "internal_error");
}
