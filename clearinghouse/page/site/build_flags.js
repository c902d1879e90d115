// clearinghouse/page/single_file.py replaces these values in the file for use without internet.

export const online = true;

/** @param {string} language @returns {Promise<Record<string, string>>} */
export async function catalogue(language) {
	const reply = await fetch(new URL(`words/${language}.json`, import.meta.url), { credentials: "omit" });
	if (!reply.ok) throw new Error("no catalogue");
	return reply.json();
}

export function workerAddress() {
	return new URL("worker/worker.js", import.meta.url).href;
}

/** @type {WorkerOptions} */
export const workerOptions = { type: "module" };
