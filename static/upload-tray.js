/* The tray that holds the rows of uploads: how far all of them are, pause all, fold.

   It goes along from page to page (visit.js) and knows no upload's protocol. */

const { formatSeconds } = globalThis.uploads;
const MOVING = ["waiting", "uploading", "interrupted"];
const OPEN = [...MOVING, "paused", "signed-out", "checking", "duplicate"];
const WINDOW = 8000; // milliseconds over which the speed is measured

/** The sum of what *measure* finds of each. */
const sum = (rows, measure) => rows.reduce((total, row) => total + measure(row), 0);

/** The tray; *rows* are the UploadRows in it. */
class Tray {
  constructor(element, rows) {
    this.element = element;
    this.rows = rows;
    this.title = element.querySelector("#tray-title");
    this.all = element.querySelector("#tray-all");
    this.samples = []; // [time, bytes sent], for the speed
    this.title.addEventListener("click", () => this.fold());
    this.all.addEventListener("click", () => this.actOnAll());
    new MutationObserver(() => this.update()).observe(element.querySelector("ul"), { childList: true });
  }

  in(states) {
    return [...this.rows].filter((row) => states.includes(row.state));
  }

  fold() {
    const open = this.title.getAttribute("aria-expanded") === "true";
    this.title.setAttribute("aria-expanded", String(!open));
  }

  /** Pauses what moves and waits, else resumes all that is paused, else takes away what is done. */
  actOnAll() {
    const moving = this.in(MOVING);
    if (!this.in(OPEN).length) for (const row of this.in(["done", "failed"])) row.queue.remove(row);
    if (!moving.length) for (const row of this.in(["paused"])) row.enqueue();
    const waiting = moving.filter((row) => row.state === "waiting"); // first, or they take the others' places
    for (const row of [...waiting, ...moving.filter((row) => row.state !== "waiting")]) row.pause();
  }

  /** Says how far all are; called whenever a row has changed. */
  update() {
    const open = this.in(OPEN);
    const done = this.in(["done"]);
    const moving = this.in(MOVING);
    const paused = this.in(["paused"]);
    const text = open.length ? this.progress(open, done) : this.outcome(done);
    if (this.title.textContent !== text) this.title.textContent = text;
    this.all.hidden = open.length ? !moving.length && !paused.length : !this.rows.size;
    this.all.textContent = moving.length ? "Pause all" : open.length ? "Resume all" : "Dismiss";
    this.element.hidden = !this.element.querySelector(".upload:not([hidden])");
    this.element.toggleAttribute("data-busy", open.length > 0);
    if (!open.length) this.samples = [];
  }

  /** How far all are: "3 of 30 uploaded · 12% · 4 min left". */
  progress(open, done) {
    const all = [...open, ...done];
    const sent = sum(all, (row) => row.sent);
    const size = sum(all, (row) => row.file.size);
    const percent = Math.floor((sent / size) * 100);
    return `${done.length} of ${all.length} uploaded · ${percent}%${this.left(sent, size)}`;
  }

  left(sent, size) {
    const now = performance.now();
    this.samples.push([now, sent]);
    while (now - this.samples[0][0] > WINDOW) this.samples.shift();
    const [firstTime, firstSent] = this.samples[0];
    const speed = ((sent - firstSent) / (now - firstTime)) * 1000;
    return now - firstTime > 1000 && speed > 0 ? ` · ${formatSeconds((size - sent) / speed)} left` : "";
  }

  outcome(done) {
    const failed = this.in(["failed"]).length;
    if (failed) return `${failed} not uploaded`;
    return done.length ? `${done.length} uploaded` : "Unfinished uploads";
  }
}

globalThis.uploads.Tray = Tray;
