// What differs in the single file for use without internet: clearinghouse/page/single_file.py replaces
// these values.

export const online = true;

export async function catalogue(language) {
	const reply = await fetch(new URL(`words/${language}.json`, import.meta.url), { credentials: "omit" });
	if (!reply.ok) throw new Error("no catalogue");
	return reply.json();
}

export function workerAddress() {
	return new URL("worker/worker.js", import.meta.url).href;
}

export const workerKind = { type: "module" };
