// Shapes of the data that the page's scripts pass to each other; `make lint-page` checks against them.
// Not part of the page: browsers never load this file.

type Media = "image" | "video";

/** A fingerprint as the service takes it: 64 hexadecimal digits, PDQ's quality 50 to 100, the view's name. */
interface Signal {
	value: string;
	quality: number;
	variant: string;
}

/** PDQ's hash of one picture; `tied` where a bit is noise. */
interface Hash {
	pdq: string;
	quality: number;
	tied: boolean;
}

/** The same with the 64 x 64 means that it was computed from, row by row; null of a tiny picture. */
interface GridHash extends Hash {
	grid: Float64Array | null;
	busy: number;
}

/** A hash that was read from a file's own bytes: `profile` has the byte ranges that describe its colours. */
interface OwnHash extends GridHash {
	pixels?: number;
	profile: number[][];
}

interface ImageHashes extends Hash {
	signals: Signal[];
}

/** All fingerprints of one file; of a video also the number of moments and the seconds between them. */
interface Item extends Partial<Hash> {
	media: Media;
	signals: Signal[];
	moments?: number;
	every?: number;
}

/** What the worker answers for a file: its item, the code of the sentence that refuses it, or both. */
interface Reply {
	found?: Item;
	code?: string;
	video?: boolean;
	due?: number;
}

/**
 * How the page hashes a file. A video takes long: `progress` receives the share that is done, from 0 to 1,
 * and cancels by returning false. `thorough` chooses the altered copies of a picture; those of a video's
 * moments are always of the standard set. `path` is for tests: "canvas" decodes by the browser alone,
 * "bytes" without it.
 */
type HashFile = (
	blob: Blob,
	options?: { progress?: (share: number) => boolean; thorough?: boolean; path?: "canvas" | "bytes" | null },
) => Promise<Reply>;

type RowCallback = (luma: Float64Array, data: Uint8ClampedArray, at: number) => void;

interface Region {
	left: number;
	top: number;
	width: number;
	height: number;
}

/** Pixels of any source: `read` calls `row` for each row of a region; `weights` are those of luma. */
interface Picture {
	width: number;
	height: number;
	read(region: Region, row: RowCallback): void;
	weights?: number[];
}

interface Crop {
	x: number;
	y: number;
	width: number;
	height: number;
}

/** The weights of the pixels from `start` on in one cell of PDQ's grid, along one axis. */
interface Band {
	start: number;
	taps: Float64Array;
}

/** Filter and decimation of one axis; `reversed` for files that store it backwards. */
type Bands = (length: number, reversed?: boolean) => Band[];

/**
 * The bands of a stored picture. `turned` is the EXIF orientation: 2 mirrored, 3 rotated by 180 degrees,
 * 4 upside down, 5 to 8 the same with rows and columns exchanged. Reversed bands and a transposed grid
 * turn the picture upright.
 */
type StoredBands = (width: number, height: number, turned: number) => { columns: Band[]; rows: Band[] };

/** An altered view of a picture; nciihash/hashing/altered_views.py explains the fields. */
interface View {
	cut?: number[];
	turn?: number;
	mirror?: boolean;
	filled?: boolean;
	fill?: number;
	shape?: number;
	pad?: boolean;
}

/** A component of a JPEG: its sampling factors and tables, the blocks that hold pixels, all in a row. */
interface Component {
	id: number;
	h: number;
	v: number;
	quant: number;
	table: Uint16Array;
	dc: Uint16Array | undefined;
	ac: Uint16Array | undefined;
	prediction: number;
	across: number;
	down: number;
	stride: number;
	coefficients: Int16Array | undefined;
}

/** The bits and coefficients of a progressive scan (T.81, G.1.1.1). */
interface Spectrum {
	from: number;
	to: number;
	high: number;
	low: number;
}

/** A proof of work that the service asks for; null where it asks for none. */
interface Challenge {
	challenge: string | null;
	difficulty?: number;
	puzzles?: number;
}

interface Work {
	challenge: string;
	difficulty: number;
	puzzles: number;
}

interface Solution {
	challenge: string;
	nonces: number[];
}

interface Secret {
	number: string;
	passphrase: string;
}

/** Part of what is sent: whole files, or further fingerprints of the file with index `file`. */
interface Part {
	items?: (Item & { more: boolean })[];
	file?: number;
	after?: number;
	signals?: Signal[];
	more?: boolean;
}

interface ReceiptItem {
	item: number;
	refused: { code: string }[];
}

interface Receipt {
	case: string;
	passphrase: string;
	expires: string;
	items: ReceiptItem[];
}

/** The service's answer to what was sent: further fingerprints of a file have no items. */
interface Answer extends Omit<Receipt, "items"> {
	items?: ReceiptItem[];
}

/** What is known of one platform and one file. */
interface PlatformStatus {
	platform: string;
	follows: boolean;
	veiled: boolean;
	has_it_since: string | null;
	matches: number;
	verdicts: Record<string, number>;
	deletion_acknowledged: string | null;
}

interface ItemStatus {
	item: number;
	media: Media;
	signals: number;
	added: string;
	withdrawn: string | null;
	held_back: boolean;
	being_checked: number;
	taken_out: string | null;
	platforms: PlatformStatus[];
}

interface CaseStatus {
	state: "open" | "withdrawn" | "expired";
	opened: string;
	expires: string;
	items: ItemStatus[];
}

/** A file on the list: once it is hashed, `item` or the `code` of why there is none. Saved ones lack `blob`. */
interface ChosenFile {
	number: number;
	name: string;
	size: number | null;
	blob: Blob | null;
	item: Item | null;
	code: string | null;
	duplicateOf: number | null;
	progress: number;
}

/** A file that copies are compared with. */
interface KnownFile {
	number: number;
	item: Item;
}

type ReadyFiles = (state: { files: ChosenFile[] }) => (ChosenFile & KnownFile)[];

/** Whether a copy would be found: the nearest file, and how many of its moments are near enough. */
interface Comparison {
	code?: string;
	blob?: Blob;
	copy?: Item;
	number?: number | null;
	near?: number;
	of?: number;
}

interface State {
	reason: string | null;
	files: ChosenFile[];
	count: number;
	names: boolean;
	thorough: boolean;
	tooMany: boolean;
	notSaved: boolean;
	checked: { files: KnownFile[] | null; unread: boolean; blob: Blob | null; answer: Comparison | null };
	saved: number;
	busy: boolean;
	sent: { bodies: string[]; keys: string[]; answers: Answer[] } | null;
	claimed: { code: string; key: string } | null;
	receipt: Receipt | null;
	kept: boolean;
	secret: Secret | null;
	status: CaseStatus | null;
	added: { expires: string; items: ReceiptItem[] } | null;
	withdrawing: number | null;
	typed: Record<string, string> | null;
	problem: string | null;
}

type App = import("./site/app.js").App;
type Child = Node | string | null | false | undefined | Child[];
type Render = (app: App) => Child[];
/** The text of a key of the catalogue, with each `{name}` replaced by a value. */
type Say = (key: string, values?: Record<string, unknown>) => string;
type DrawFile = (file: ChosenFile, announced?: boolean) => void;

/** Makes an element. An attribute "onclick" is a listener; those that are false or null are omitted. */
type MakeElement = <K extends keyof HTMLElementTagNameMap>(
	tag: K,
	attributes?: Record<string, string | boolean | null | EventListener>,
	...children: Child[]
) => HTMLElementTagNameMap[K];

type MakePicker = (
	text: string,
	id: string,
	act: (files: FileList) => void,
	options?: { kind?: string; accept?: string; multiple?: boolean },
) => HTMLElement[];

/** The requests of api.js. `work` is the proof of work in the header, `key` the idempotency key. */
interface Api {
	fetchWork(): Promise<Challenge>;
	openCase(body: string, key: string): Promise<Receipt>;
	addItems(secret: Secret, body: string, key: string, work: Solution | null): Promise<Receipt>;
	addSignals(secret: Secret, item: number, body: string, key: string, work: Solution | null): Promise<Answer>;
	claimCase(code: string, key: string): Promise<Receipt>;
	readCase(secret: Secret, work: Solution | null): Promise<CaseStatus>;
	/** Withdraws a file, or all of them where `item` is null. */
	withdraw(secret: Secret, item: number | null, work: Solution | null): Promise<unknown>;
	/** The body that opens a case: with the proof of work, all that is sent. */
	openingBody(reason: string | null, items: Item[], work?: Solution | null): string;
	/** The body that adds files to a case; saved files have the same form. */
	addingBody(items: Item[], work?: Solution | null): string;
	/** The body that adds further fingerprints to a file. */
	partBody(part: Part, work?: Solution | null): string;
}

interface RequestOptions {
	body?: string | null;
	key?: string | null;
	secret?: Secret | null;
	work?: Solution | null;
}

/**
 * Sends a request, and again with a proof whenever the service asks for one. `send` receives the proofs
 * for its body and its header; `onWait` is called before one is computed, and cancels by returning false.
 */
type SendWithWork = <T>(
	send: (body: Solution | null, header: Solution | null) => Promise<T>,
	onWait: () => boolean,
	body?: Solution | null,
) => Promise<T>;

/**
 * Passes frames of a video to `visit`, with the length of the video in seconds, 0 if unknown. It returns
 * the time of the next frame that is due, or null to stop.
 */
type PlayFrames = (
	blob: Blob,
	visit: (frame: VideoFrame | ImageBitmap, time: number, seconds: number) => Promise<number | null>,
) => Promise<void>;

/** `wanted` receives the hash of the whole picture, and returns whether to hash its views. */
type HashPixels = (
	picture: Picture,
	wanted?: (whole: Hash) => boolean,
	views?: Record<string, View>,
) => ImageHashes;

/** The pixels of anything that a canvas can draw, on white; `weights` are those of luma. */
type Drawn = (
	image: CanvasImageSource,
	size: { width: number; height: number },
	weights?: number[],
) => Picture;

/** A VideoFrame, or an ImageBitmap where there are none, so that the properties of the other are missing. */
type PlayedFrame = VideoFrame & ImageBitmap & { rotation?: number; flip?: boolean };

/** `vp8`: the codec has the colour standard BT.601 only; `crop`: the part that the video's header shows. */
type PixelsOf = (frame: PlayedFrame, vp8: boolean, crop?: Crop | null) => Promise<Picture>;

/** Hashes an animation as a video, until a time by the clock of `performance`; null of a still picture. */
type HashAnimation = (kind: string, blob: Blob, until: number) => Promise<Item | null>;

type CheckVideo = (kind: string, blob: Blob) => Promise<Crop | null>;
type CheckStructure = (kind: string, blob: Blob, data: Uint8Array) => Promise<void>;
type OpaqueBmp = (blob: Blob, data: Uint8Array<ArrayBuffer>) => Blob;
type AddViews = (
	signals: import("./site/worker/altered_views.js").DistinctSignals,
	cells: import("./site/worker/altered_views.js").Cells,
	views: Record<string, View>,
) => void;
type TurnedCopies = (grid: Float64Array, pdq: string) => Signal[];

/** A PNG's header and chunks, and the frame that is shown where the first image is hidden. */
interface PngFrame extends Region {
	packed: Uint8Array[];
}
interface Png extends PngFrame {
	depth: number;
	colour: number;
	bits: number;
	interlaced: number;
	turned: number;
	profile: number[][];
	palette: Uint8Array;
	clear: Uint8Array;
	shown: PngFrame | null;
	luma(row: Uint8Array, out: Float64Array): void;
}
