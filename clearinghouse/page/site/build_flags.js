// What differs between the page on a server and the single file for use without internet, whose
// builder (clearinghouse/page/single_file.py) puts other values in the place of these.

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
