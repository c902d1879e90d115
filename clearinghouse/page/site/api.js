// Everything that this page ever says to a server, all of it to its own.

const SECONDS = 60;
const PATIENCE = 3; // times that a busy service is asked again
const AT_ONCE = 1024; // fingerprints in one request: the service takes no more

/** An answer that is no success; `code` names the sentence that she reads. */
export class ApiError extends Error {
	constructor(code, work = null) {
		super(code);
		this.code = code;
		this.work = work; // what it takes to be heard
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

const typed = (signals) => signals.map((signal) => ({ type: "pdq", ...signal }));

const items = (prints) =>
	prints.map(({ media, signals, more }) => ({ media, signals: typed(signals), ...(more ? { more } : {}) }));

/**
 * Divide files among requests. Each part holds files, or further fingerprints of one long video,
 * `file` being its index.
 */
export function inParts(prints) {
	const parts = [];
	let room = 0;
	prints.forEach(({ media, signals }, file) => {
		const first = signals.slice(0, AT_ONCE);
		const more = first.length < signals.length;
		if (first.length > room) {
			parts.push({ prints: [] });
			room = AT_ONCE;
		}
		parts.at(-1).prints.push({ media, signals: first, more });
		room -= first.length;
		for (let after = AT_ONCE; after < signals.length; after += AT_ONCE) {
			const next = signals.slice(after, after + AT_ONCE);
			parts.push({ file, after, signals: next, more: after + AT_ONCE < signals.length });
			room = 0;
		}
	});
	return parts;
}

/** Write the body that adds further fingerprints to a file. */
export function partBody({ after, signals, more }, work = null) {
	return JSON.stringify({ after, signals: typed(signals), more, ...(work && { work }) });
}

/** Write the body that opens a case. With the proof of work it is the whole of what is sent. */
export function openingBody(reason, prints, work = null) {
	const declaration = { adult: true, depicted: true };
	return JSON.stringify({ declaration, reason, work, items: items(prints) });
}

export function addingBody(prints, work = null) {
	return JSON.stringify({ items: items(prints), ...(work && { work }) });
}

/** Read a file that holds such a body: the fingerprints in it, or none where it is something else. */
export async function readBody(blob) {
	try {
		return JSON.parse(await blob.text()).items.map(({ media, signals }) => {
			const read = signals.filter(sound).map(({ value, quality, variant }) => ({ value, quality, variant }));
			if (read.length !== signals.length || !read.length) throw new ApiError("not_saved");
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
export const addItems = (secret, body, key, work) => ask("POST", "/v1/case/items", { secret, body, key, work });
export const addSignals = (secret, item, body, key, work) =>
	ask("POST", `/v1/case/items/${item}/signals`, { secret, body, key, work });
export const claimCase = (code, key) => ask("POST", "/v1/claim", { body: JSON.stringify({ code }), key });
export const readCase = (secret, work) => ask("GET", "/v1/case", { secret, work });
export const withdraw = (secret, item, work) =>
	ask("DELETE", item === null ? "/v1/case" : `/v1/case/items/${item}`, { secret, work });

async function ask(method, path, { body = null, key = null, secret = null, work = null }, tries = PATIENCE) {
	const headers = {};
	if (body !== null) headers["Content-Type"] = "application/json";
	if (key !== null) headers["Idempotency-Key"] = key;
	if (secret !== null) headers.Authorization = authorization(secret);
	if (work !== null) headers.Work = btoa(JSON.stringify(work));
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
		throw new ApiError("offline");
	}
	if (reply.ok) return answer;
	if ([429, 503].includes(reply.status)) {
		if (tries === 0) throw new ApiError("busy");
		const wait = Math.min(Number(reply.headers.get("Retry-After")) || 2, 10);
		await new Promise((resolve) => setTimeout(resolve, wait * 1000));
		return ask(method, path, { body, key, secret, work }, tries - 1);
	}
	throw new ApiError(answer.code ?? "internal_error", answer.work);
}
