// Every request that this page sends, all to the service that it came from.

const TIMEOUT = 60_000; // milliseconds
const RETRIES = 3; // of a request that a busy service refuses
const SIGNALS_MAX = 1024; // fingerprints in one request: the service takes no more

/** A failed request: its error code, and the proof of work that the service asks for. */
export class ApiError extends Error {
	/** @param {string} code @param {Challenge | null} [work] */
	constructor(code, work = null) {
		super(code);
		this.code = code;
		this.work = work;
	}
}

/** @param {unknown} error */
export const codeOf = (error) => (error instanceof ApiError ? error.code : "internal_error");

/** Return an idempotency key: 128 random bits. */
export function newKey() {
	return Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");
}

const hex = (byte) => byte.toString(16).padStart(2, "0");

function authorization({ number, passphrase }) {
	const bytes = new TextEncoder().encode(`${number}:${passphrase}`);
	return `Case ${btoa(String.fromCharCode(...bytes))}`;
}

const withType = (signals) => signals.map((signal) => ({ type: "pdq", ...signal }));

const bodyOf = (items) =>
	items.map(({ media, signals, more }) => ({ media, signals: withType(signals), more: more || undefined }));

/** Divide files among requests. @param {Item[]} items */
export function splitIntoParts(items) {
	/** @type {Part[]} */
	const parts = [];
	let free = 0;
	items.forEach(({ media, signals }, file) => {
		const first = signals.slice(0, SIGNALS_MAX);
		const more = first.length < signals.length;
		if (first.length > free) {
			parts.push({ items: [] });
			free = SIGNALS_MAX;
		}
		parts.at(-1)?.items?.push({ media, signals: first, more });
		free -= first.length;
		for (let after = SIGNALS_MAX; after < signals.length; after += SIGNALS_MAX) {
			const next = signals.slice(after, after + SIGNALS_MAX);
			parts.push({ file, after, signals: next, more: after + SIGNALS_MAX < signals.length });
			free = 0;
		}
	});
	return parts;
}

/** @type {Api["partBody"]} */
export function partBody({ after, signals, more }, work = null) {
	return JSON.stringify({ after, signals: withType(signals), more, work: work ?? undefined });
}

/** @type {Api["openingBody"]} */
export function openingBody(reason, items, work = null) {
	const declaration = { adult: true, depicted: true };
	return JSON.stringify({ declaration, reason, work, items: bodyOf(items) });
}

/** @type {Api["addingBody"]} */
export function addingBody(items, work = null) {
	return JSON.stringify({ items: bodyOf(items), work: work ?? undefined });
}

/**
 * Return the items of a saved body; none if the file is anything else.
 * @param {Blob} blob
 * @returns {Promise<Item[]>}
 */
export async function readBody(blob) {
	const body = await blob.text().then(JSON.parse).catch(() => null);
	const items = Array.isArray(body?.items) ? body.items : [];
	return items.every(isItem) ? items.map(readItem) : [];
}

const isItem = (item) => Array.isArray(item?.signals) && item.signals.length && item.signals.every(isSignal);

const isSignal = (signal) =>
	signal?.type === "pdq" &&
	/^[0-9a-f]{64}$/.test(signal.value) &&
	Number.isInteger(signal.quality) &&
	signal.quality >= 50 &&
	signal.quality <= 100 &&
	/^[a-z0-9-]{1,20}$/.test(signal.variant);

const readItem = ({ media, signals }) => ({
	media: media === "video" ? "video" : "image",
	signals: signals.map(({ value, quality, variant }) => ({ value, quality, variant })),
});

/** @type {Api["fetchWork"]} */
export const fetchWork = () => request("GET", "/v1/work", {});
/** @type {Api["openCase"]} */
export const openCase = (body, key) => request("POST", "/v1/cases", { body, key });
/** @type {Api["addItems"]} */
export const addItems = (secret, body, key, work) =>
	request("POST", "/v1/case/items", { secret, body, key, work });
/** @type {Api["addSignals"]} */
export const addSignals = (secret, item, body, key, work) =>
	request("POST", `/v1/case/items/${item}/signals`, { secret, body, key, work });
/** @type {Api["claimCase"]} */
export const claimCase = (code, key) => request("POST", "/v1/claim", { body: JSON.stringify({ code }), key });
/** @type {Api["readCase"]} */
export const readCase = (secret, work) => request("GET", "/v1/case", { secret, work });
/** @type {Api["withdraw"]} */
export const withdraw = (secret, item, work) =>
	request("DELETE", item === null ? "/v1/case" : `/v1/case/items/${item}`, { secret, work });

/** @param {RequestOptions} options */
async function request(method, path, options, retries = RETRIES) {
	const { body, key, secret, work } = options;
	/** @type {Record<string, string>} */
	const headers = {};
	if (body) headers["Content-Type"] = "application/json";
	if (key) headers["Idempotency-Key"] = key;
	if (secret) headers.Authorization = authorization(secret);
	if (work) headers.Work = btoa(JSON.stringify(work));
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
			signal: AbortSignal.timeout(TIMEOUT),
		});
		answer = await reply.json();
	} catch {
		throw new ApiError("offline");
	}
	if (reply.ok) return answer;
	if ([429, 503].includes(reply.status)) {
		if (retries === 0) throw new ApiError("busy");
		const seconds = Math.min(Number(reply.headers.get("Retry-After")) || 2, 10);
		await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
		return request(method, path, options, retries - 1);
	}
	throw new ApiError(answer.code ?? "internal_error", answer.work);
}
