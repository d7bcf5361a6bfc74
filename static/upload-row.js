/* One file on its way to the server: its row on the page and its upload by tus.

   A row knows nothing of the other rows: the queue (upload.js) says when it starts. */

const CHUNK = 64 * 1024 * 1024; // bytes
const RETRY_DELAYS = [1, 2, 5, 10, 20, 30]; // seconds until the next try; the last one repeats
const SPEED_WINDOW = 8000; // milliseconds over which the speed is measured
const DISCONNECTED = "Connection lost. The upload will continue as soon as you’re back online.";

/** Formats bytes for people: 510 kB, 1.2 MB, 24 MB, 1.35 GB. */
const formatBytes = (bytes) => {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  return `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 1)} GB`;
};

/** Formats seconds for people: 42 s, 12 min, 1 h 40 min. */
const formatSeconds = (seconds) => {
  const minutes = Math.ceil(seconds / 60);
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};

/** Identifies a file that is chosen again, in this tab or after a reload. */
const fileKey = (name, size, modified) => [name, size, modified].join("\n");

const createElement = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
};

const createButton = (text, onClick) => {
  const button = createElement("button", "quiet", text);
  button.type = "button";
  button.addEventListener("click", onClick);
  return button;
};

const createLink = (text, href) => Object.assign(createElement("a", "link", text), { href });

/** The CSRF token: from its cookie, because signing in again in another tab changes it. */
const csrfToken = () => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";

/** Sends a tus request without a body; one that deletes outlives the page. */
const request = (method, url) =>
  fetch(url, {
    method,
    keepalive: true, // who leaves the page has chosen, or deleted, all the same
    headers: { "X-CSRFToken": csrfToken(), "Tus-Resumable": "1.0.0" },
  });

/** Deletes an upload on the server, trying again where the server doesn't answer. */
const deleteUpload = async (url, delays = [500, 1000, 3000, 5000]) => {
  const response = await request("DELETE", url).catch(() => null);
  const [delay, ...rest] = delays;
  if (delay && (!response || response.status >= 500)) setTimeout(deleteUpload, delay, url, rest);
};

/** The sentence in a refusal: a plain-text body, else the fallback; an error page's HTML is not for a row. */
const refusalText = (body, fallback) => (body && !body.startsWith("<") ? body : fallback);

/** A file's row: its element, its state, and the tus upload behind it.

    States: waiting, uploading, paused, interrupted (tries again), signed-out, checking (by the server),
    duplicate, done, failed. */
class UploadRow {
  /** @param url the upload's address on the server, where a part of the file has arrived before */
  constructor(file, queue, url = null) {
    this.file = file;
    this.queue = queue;
    this.url = url;
    this.key = fileKey(file.name, file.size, file.lastModified);
    this.pipeline = queue.pipeline;
    this.state = "";
    this.sent = 0; // bytes
    this.retries = 0;
    this.samples = []; // [time, bytes sent], for the speed
    this.createElements();
  }

  createElements() {
    const name = createElement("strong", "", this.file.name);
    name.title = this.file.name;
    this.bar = createElement("progress");
    this.bar.max = 100;
    this.bar.value = 0;
    this.bar.setAttribute("aria-label", `Upload of ${this.file.name}`);
    this.message = createElement("span", "message hint");
    this.actions = createElement("span", "acts");
    this.element = createElement("li", "upload");
    this.element.append(name, this.bar, this.message, this.actions);
  }

  /** Shows a state, its sentence and what can be done about it; a screen reader hears all but progress. */
  setState(state, text, ...actions) {
    const routine = ["waiting", "uploading"].includes(state);
    if (state !== this.state && !routine) this.queue.announce(`${this.file.name}: ${text}`);
    this.state = state;
    this.element.dataset.state = state;
    this.say(text);
    const focused = this.actions.contains(document.activeElement);
    this.actions.replaceChildren(...actions);
    if (focused) this.actions.firstElementChild?.focus();
  }

  say(text) {
    this.message.textContent = text;
    this.message.title = text;
    this.queue.changed();
  }

  removeButton() {
    return createButton("Remove", () => this.remove());
  }

  /** How much has arrived: 42% of 1.2 GB. */
  progressText() {
    return `${Math.floor((this.sent / this.file.size) * 100)}% of ${formatBytes(this.file.size)}`;
  }

  enqueue() {
    clearTimeout(this.retryTimer);
    const amount = this.sent ? this.progressText() : formatBytes(this.file.size);
    this.setState("waiting", `Waiting, ${amount}`, this.removeButton());
    this.queue.startNext();
  }

  async start() {
    this.samples = [];
    this.lastProgress = performance.now();
    const pause = createButton("Pause", () => this.pause());
    this.setState("uploading", "Starting…", pause, this.removeButton());
    this.turn = {};
    const { turn } = this; // until it is paused, removed or started again
    const answer = await this.findJob(() => this.turn === turn);
    if (this.turn !== turn) return;
    if (answer) return this.finish((name) => answer.headers.get(name));
    this.upload = this.createUpload();
    this.upload.start();
  }

  /** Asks once whether the file is here already, first by its size; the answer that names a job of it. */
  async findJob(isWanted) {
    if (this.url || this.replaces || this.known) return null;
    const { name, size } = this.file;
    this.known = new URLSearchParams({ filename: name, size, pipeline: this.pipeline });
    try {
      const sized = await this.ask();
      if (!sized.headers.has("Mediapipe-Size-Known") || !isWanted()) return null;
      const { sha256 } = await import(this.queue.digest);
      const digest = await sha256(this.file, (part) => {
        this.lastProgress = performance.now();
        if (isWanted()) this.say(`Comparing with what is here, ${Math.floor(part * 100)}%`);
        return isWanted();
      });
      this.known.set("sha256", digest);
      const answer = digest && (await this.ask());
      return ["Job", "Duplicate"].some((kind) => answer?.headers.has(`Mediapipe-${kind}`)) ? answer : null;
    } catch {
      return null; // sending it says what is wrong
    }
  }

  ask() {
    return request("POST", `${this.queue.endpoint}known/?${this.known}`);
  }

  /** The tus upload; what an aborted one still reports is ignored. */
  createUpload() {
    const { name, type, lastModified } = this.file;
    const ifCurrent = (handle) => (argument, total) => {
      if (upload === this.upload) handle(argument, total);
    };
    const upload = new tus.Upload(this.file, {
      endpoint: this.url ? null : this.queue.endpoint, // with one, tus would start over after any error
      uploadUrl: this.url,
      chunkSize: CHUNK,
      retryDelays: null,
      storeFingerprintForResuming: false,
      metadata: {
        filename: name,
        filetype: type,
        modified: String(lastModified),
        pipeline: this.pipeline,
        ...(this.replaces && { replaces: this.replaces }),
      },
      onBeforeRequest: (request) => request.setHeader("X-CSRFToken", csrfToken()),
      onUploadUrlAvailable: () => {
        this.url = upload.url;
      },
      onProgress: ifCurrent((sent, total) => this.showProgress(sent, total)),
      onSuccess: ifCurrent(({ lastResponse }) => this.finish((name) => lastResponse.getHeader(name))),
      onError: ifCurrent((error) => this.handleError(error)),
    });
    return upload;
  }

  abort() {
    clearTimeout(this.retryTimer);
    this.turn = null;
    this.upload?.abort();
    this.upload = null;
  }

  pause() {
    this.abort();
    const resume = createButton("Resume", () => this.enqueue());
    this.setState("paused", `Paused at ${this.progressText()}`, resume, this.removeButton());
    this.queue.startNext();
  }

  /** Removes the row, and what has arrived of its file. */
  remove() {
    this.abort();
    if (this.url) deleteUpload(this.url);
    this.queue.remove(this);
  }

  showProgress(sent, total) {
    if (sent > this.sent) this.retries = 0;
    this.sent = sent;
    this.lastProgress = performance.now();
    this.bar.value = (sent / total) * 100;
    if (sent < total) {
      this.say(this.progressText() + this.speedText(total - sent));
      return;
    }
    if (this.state === "uploading") this.setState("checking", "Checking the file…", this.removeButton());
    this.queue.startNext();
  }

  /** Speed and time left, as soon as a second has been measured: ", 12 MB/s, about 40 s left". */
  speedText(bytesLeft) {
    const now = this.lastProgress;
    this.samples.push([now, this.sent]);
    while (now - this.samples[0][0] > SPEED_WINDOW) this.samples.shift();
    const [firstTime, firstSent] = this.samples[0];
    const speed = ((this.sent - firstSent) / (now - firstTime)) * 1000;
    if (now - firstTime <= 1000 || speed <= 0) return "";
    return `, ${formatBytes(speed)}/s, about ${formatSeconds(bytesLeft / speed)} left`;
  }

  /** The server has the whole file: it answers with the job, or with an earlier job of the same file. */
  finish(getHeader) {
    this.sent = this.file.size;
    const duplicate = getHeader("Mediapipe-Duplicate");
    this.bar.value = 100;
    this.upload = null;
    if (duplicate) {
      const open = createLink("Open that job", duplicate);
      const run = createButton("Run again", () => this.runAgain());
      const says = decodeURIComponent(getHeader("Mediapipe-Duplicate-Says") ?? "");
      this.setState(
        "duplicate",
        says || "You’ve already uploaded this file.",
        open,
        run,
        this.removeButton(),
      );
    } else {
      this.job = getHeader("Mediapipe-Job");
      const open = this.job ? [createLink("Open the job", this.job)] : [];
      const dismiss = createButton("Dismiss", () => this.queue.remove(this));
      const sent = this.url ? "Uploaded." : "It’s here already, so it wasn’t sent again.";
      this.setState("done", sent, ...open, dismiss);
    }
    document.body.dispatchEvent(new CustomEvent("refresh"));
    this.queue.startNext();
  }

  /** Starts a job of a file that has been uploaded before. */
  async runAgain() {
    try {
      this.known?.set("again", "1");
      const response = await (this.url ? request("POST", `${this.url}run/`) : this.ask());
      const fallback = "The job couldn’t be started. Reload the page and try again.";
      if (response.ok) this.finish((name) => response.headers.get(name));
      else this.refuse(refusalText(await response.text(), fallback));
    } catch {
      this.say("Connection lost. Try again in a moment.");
    }
  }

  handleError(error) {
    const response = error?.originalResponse;
    const status = response?.getStatus() ?? 0;
    const text = refusalText(response?.getBody(), response?.getHeader("Mediapipe-Says"));
    const gone = [404, 410].includes(status);
    if (!status || status >= 500 || [408, 409, 423, 460].includes(status)) {
      this.interrupt(text || DISCONNECTED);
    } else if (status === 401 || status === 403) {
      this.askToSignIn();
    } else if (gone && this.url && this.sent < this.file.size) {
      this.url = null; // the server no longer has its bytes: start over
      this.sent = 0;
      this.enqueue();
    } else {
      if (gone || status === 422) this.url = null;
      this.refuse(text || "The server refused this file.");
      this.queue.startNext();
    }
  }

  askToSignIn() {
    const link = createLink("Sign in", this.queue.signInUrl);
    link.target = "_blank";
    link.rel = "noopener";
    const text = "You’ve been signed out. Sign in to continue the upload.";
    this.setState("signed-out", text, link, this.removeButton());
    this.queue.startNext();
  }

  /** Stops until the next try. A lost connection keeps its place: the others would fail as well. */
  interrupt(text = DISCONNECTED) {
    this.abort();
    const seconds = RETRY_DELAYS[Math.min(this.retries, RETRY_DELAYS.length - 1)];
    this.retries += 1;
    const retry = createButton("Try now", () => this.enqueue());
    const stopped = this.sent ? `Stopped at ${this.progressText()}. ` : "";
    this.setState("interrupted", stopped + text, retry, this.removeButton());
    this.retryTimer = setTimeout(() => this.enqueue(), seconds * 1000);
    if (text !== DISCONNECTED) this.queue.startNext();
  }

  refuse(text) {
    this.setState("failed", text, this.removeButton());
  }
}

globalThis.uploads = {
  UploadRow,
  createButton,
  deleteUpload,
  fileKey,
  formatBytes,
  formatSeconds,
  request,
};
