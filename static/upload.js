/* Uploads by tus: many at once, paused, resumed after a lost link, a restart or a closed tab.

   What has arrived is the server's to say: it lists what stopped, and a file that is chosen again goes on there. */
(() => {
  "use strict";
  const zone = document.querySelector("[data-upload]");
  const list = document.querySelector("[data-upload-rows]");
  if (!zone || !window.tus?.isSupported) return;

  const PARALLEL = 2;
  const CHUNK = 64 * 1024 * 1024;
  const WAITS = [1, 2, 5, 10, 20, 30]; // seconds until the next try; the last one again and again
  const SILENCE = 90; // seconds without a byte, after which a link counts as lost
  const NO_MEDIA =
    /^(text|image(?!\/gif)|font|message|model)\/|^application\/(pdf|zip|g?zip|json|xml|msword|rtf|javascript|x-(zip|7z|rar|tar|gzip|sh)|vnd\.(openxml|ms-|oasis|rar))/;
  const MEDIA = /\.(m?ts|m2ts|mxf|vob|dv)$/i; // some systems take these for texts
  const EMPTY = "This file is empty (0 bytes). Choose a file with something in it.";
  const FOREIGN = "This is not a video or audio file. Choose another one.";
  const FOLDER = "This is a folder. Choose the files in it.";
  const LOST = "The connection was lost. The upload goes on where it stopped.";
  const rows = new Set();

  const amount = (bytes) => {
    if (bytes < 1e5) return `${Math.ceil(bytes / 1e3)} kB`;
    if (bytes < 1e9) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
    return `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 1)} GB`;
  };
  const inTime = (seconds) => {
    const minutes = Math.ceil(seconds / 60);
    if (seconds < 90) return `${Math.ceil(seconds)} s`;
    return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const percent = (sent, total) => Math.floor((sent / total) * 100);
  const key = (name, size, modified) => [name, size, modified].join("\n");

  const make = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  };
  const button = (text, act) => {
    const made = make("button", "quiet", text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  };
  const link = (text, href, target) =>
    Object.assign(make("a", "link", text), { href, ...(target && { target, rel: "noopener" }) });
  const voice = make("output", "vh"); // tells a screen reader what changed, not each percent
  list.after(voice);

  // Signing in again, in whichever tab, changes the token: the cookie has the one that counts.
  const csrf = () => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? document.body.dataset.csrf;
  const onBeforeRequest = (request) => request.setHeader("X-CSRFToken", csrf());
  const ask = (method, url) =>
    fetch(url, {
      method,
      keepalive: method === "DELETE",
      headers: { "X-CSRFToken": csrf(), "Tus-Resumable": "1.0.0" },
    });
  const forget = async (url, delays = [500, 1000, 3000, 5000]) => {
    const answer = await ask("DELETE", url).catch(() => null);
    if (delays.length && (!answer || answer.status >= 500))
      setTimeout(forget, delays[0], url, delays.slice(1));
  };
  const refresh = () => document.body.dispatchEvent(new CustomEvent("refresh"));
  const said = (body, header) => (body && !body.startsWith("<") ? body : header);

  class Row {
    constructor(file, url = null) {
      Object.assign(this, { file, url, state: "", sent: 0, tries: 0, marks: [] });
      this.key = key(file.name, file.size, file.lastModified);
      this.pipeline = document.getElementById("upload-pipeline")?.value || "";
      this.element = make("li", "upload");
      this.bar = make("progress");
      this.bar.max = 100;
      this.bar.value = 0;
      this.bar.setAttribute("aria-label", `Upload of ${file.name}`);
      this.says = make("span", "says hint");
      this.acts = make("span", "acts");
      const name = make("strong", "", file.name);
      name.title = file.name;
      this.element.append(name, this.bar, this.says, this.acts);
      list.append(this.element);
      rows.add(this);
    }

    show(state, text, ...acts) {
      if (state !== this.state && !["waiting", "moving"].includes(state))
        voice.textContent = `${this.file.name}: ${text}`;
      this.state = this.element.dataset.state = state;
      this.says.textContent = text;
      const focused = this.acts.contains(document.activeElement);
      this.acts.replaceChildren(...acts);
      if (focused) this.acts.firstElementChild?.focus();
    }

    removeButton() {
      return button("Remove", () => this.remove());
    }

    at() {
      return `${percent(this.sent, this.file.size)} % of ${amount(this.file.size)}`;
    }

    wait() {
      clearTimeout(this.timer);
      this.show(
        "waiting",
        this.sent ? `${this.at()}, waiting` : `${amount(this.file.size)}, waiting`,
        this.removeButton(),
      );
      pump();
    }

    begin() {
      this.marks = [];
      this.moved = performance.now();
      this.show(
        "moving",
        "starting",
        button("Pause", () => this.pause()),
        this.removeButton(),
      );
      const { name, type, lastModified } = this.file;
      const upload = new tus.Upload(this.file, {
        endpoint: this.url ? null : zone.dataset.endpoint, // with one, tus would begin anew after any error
        uploadUrl: this.url,
        chunkSize: CHUNK,
        retryDelays: null,
        storeFingerprintForResuming: false,
        metadata: { filename: name, filetype: type, modified: String(lastModified), pipeline: this.pipeline },
        onBeforeRequest,
        onUploadUrlAvailable: () => {
          this.url = upload.url;
        },
        onProgress: (sent, total) => {
          if (upload === this.upload) this.progress(sent, total);
        },
        onSuccess: ({ lastResponse }) => {
          if (upload === this.upload) this.done((name) => lastResponse.getHeader(name));
        },
        onError: (error) => {
          if (upload === this.upload) this.failed(error);
        },
      });
      this.upload = upload;
      upload.start();
    }

    stop() {
      clearTimeout(this.timer);
      this.upload?.abort();
      this.upload = null;
    }

    pause() {
      this.stop();
      this.show(
        "paused",
        `paused at ${this.at()}`,
        button("Resume", () => this.wait()),
        this.removeButton(),
      );
      pump();
    }

    remove() {
      this.stop();
      if (this.url) forget(this.url);
      this.drop();
    }

    drop() {
      rows.delete(this);
      this.element.remove();
      pump();
    }

    progress(sent, total) {
      const now = performance.now();
      if (sent > this.sent) this.tries = 0;
      this.sent = sent;
      this.moved = now;
      this.bar.value = (sent / total) * 100;
      if (sent === total) {
        if (this.state === "moving") this.show("checking", "Checking file…", this.removeButton());
        return pump();
      }
      this.marks.push([now, sent]);
      while (now - this.marks[0][0] > 8000) this.marks.shift();
      const [then, before] = this.marks[0];
      const speed = ((sent - before) / (now - then)) * 1000;
      const left =
        now - then > 1000 && speed > 0
          ? `, ${amount(speed)}/s, about ${inTime((total - sent) / speed)} left`
          : "";
      this.says.textContent = this.at() + left;
    }

    done(header) {
      const [job, older] = [header("Mediapipe-Job"), header("Mediapipe-Duplicate")];
      this.bar.value = 100;
      this.upload = null;
      if (older) {
        const again = button("Run it again", () => this.again());
        this.show(
          "older",
          "You uploaded the same file before.",
          link("Open it", older),
          again,
          this.removeButton(),
        );
      } else {
        this.job = job;
        this.show(
          "done",
          "Uploaded.",
          ...(job ? [link("Open the job", job)] : []),
          button("Dismiss", () => this.drop()),
        );
      }
      refresh();
      pump();
    }

    async again() {
      try {
        const answer = await ask("POST", `${this.url}run/`);
        if (!answer.ok)
          return this.refuse(
            said(await answer.text(), "It could not be started. Reload the page and try again."),
          );
        this.done((name) => answer.headers.get(name));
      } catch {
        this.says.textContent = "The connection was lost. Try again in a moment.";
      }
    }

    failed(error) {
      const answer = error?.originalResponse;
      const status = answer?.getStatus() ?? 0;
      const text = said(answer?.getBody(), answer?.getHeader("Mediapipe-Says"));
      if (!status || status >= 500 || [408, 409, 423, 460].includes(status)) return this.lost(text || LOST);
      if (status === 401 || status === 403) {
        const signIn = link("Sign in", zone.dataset.login, "_blank");
        this.show(
          "away",
          "You are signed out. Sign in again: the upload goes on where it stopped.",
          signIn,
          this.removeButton(),
        );
      } else if ([404, 410].includes(status) && this.url && this.sent < this.file.size) {
        this.url = null; // its bytes are gone: there is nothing to go on with
        this.sent = 0;
        return this.wait();
      } else {
        if ([404, 410, 422].includes(status)) this.url = null;
        this.refuse(text || "The server refused this file.");
      }
      pump();
    }

    lost(text) {
      this.stop();
      const seconds = WAITS[Math.min(this.tries++, WAITS.length - 1)];
      this.show(
        "lost",
        `${this.sent ? `Stopped at ${this.at()}. ` : ""}${text}`,
        button("Try now", () => this.wait()),
        this.removeButton(),
      );
      this.timer = setTimeout(() => this.wait(), seconds * 1000);
      if (text !== LOST) pump(); // a lost link stops the others too
    }

    refuse(text) {
      this.show("failed", text, this.removeButton());
    }
  }

  const pump = () => {
    let free = PARALLEL - [...rows].filter((row) => row.state === "moving" || row.state === "lost").length;
    for (const row of rows) {
      if (free <= 0) return;
      if (row.state !== "waiting") continue;
      row.begin();
      free--;
    }
  };

  // What the server has of files that stopped: a row each, until the file is chosen again.
  const notes = new Map();
  for (const element of list.querySelectorAll("[data-stopped]")) {
    const { stopped: url, name, size, modified, percent: arrived } = element.dataset;
    const note = { element, url };
    element.hidden = false;
    if (arrived === "100") finish(note, { name, size: Number(size), lastModified: modified });
    else notes.set(key(name, size, modified), note);
    element.querySelector(".acts").append(
      button("Remove", () => {
        forget(url);
        element.remove();
        notes.delete(key(name, size, modified));
      }),
    );
  }

  // All its bytes are here: the server need only be asked.
  async function finish({ element, url }, file) {
    const says = element.querySelector(".says");
    says.textContent = "Checking file…";
    try {
      const answer = await ask("HEAD", url);
      const text = answer.headers.get("Mediapipe-Says");
      if (!answer.ok) says.textContent = text ?? "It could not be checked. Reload the page to try again.";
      else {
        element.remove();
        new Row(file, url).done((name) => answer.headers.get(name));
      }
    } catch {
      says.textContent = "The connection was lost. Reload the page to try again.";
    }
  }

  const take = (file, refusal = "") => {
    const own = key(file.name, file.size, file.lastModified);
    const present = [...rows].find((row) => row.key === own && !["done", "failed"].includes(row.state));
    if (present) {
      present.element.scrollIntoView({ block: "nearest" });
      if (["paused", "lost", "away"].includes(present.state)) present.wait();
      return;
    }
    const note = notes.get(own);
    notes.delete(own);
    note?.element.remove();
    const row = new Row(file, note?.url);
    const foreign = NO_MEDIA.test(file.type) && !MEDIA.test(file.name) && FOREIGN;
    const text = refusal || (!file.size && EMPTY) || foreign;
    if (text) row.refuse(text);
    else row.wait();
  };

  const chooser = zone.querySelector("input[type=file]");
  chooser.addEventListener("change", () => {
    for (const file of chooser.files) take(file);
    chooser.value = "";
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    zone.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
    const folders = new Set(entries.filter((entry) => entry?.isDirectory).map((entry) => entry.name));
    for (const file of event.dataTransfer.files) take(file, folders.has(file.name) ? FOLDER : "");
  });
  document.addEventListener("paste", (event) => {
    for (const file of event.clipboardData?.files ?? []) take(file);
    const text = event.clipboardData?.getData("text/plain").trim();
    if (event.target.closest("input, textarea") || !/^https?:\/\/\S+$/i.test(text)) return;
    event.preventDefault();
    const field = document.getElementById("upload-url");
    field.value = text;
    field.focus();
  });

  // A row whose job the list shows has done its work; one that a filter hides keeps its link.
  document.addEventListener("htmx:after:swap", () => {
    for (const row of rows) if (row.job && document.querySelector(`.job a[href="${row.job}"]`)) row.drop();
  });

  const resume = (...states) => {
    for (const row of rows) if (states.includes(row.state)) row.wait();
  };
  window.addEventListener("online", () => {
    resume("lost");
    refresh();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) resume("away");
  });
  window.addEventListener("focus", () => resume("away"));
  setInterval(() => {
    const long = performance.now() - SILENCE * 1000;
    for (const row of rows) if (row.state === "moving" && row.moved < long) row.lost(LOST);
  }, 5000);

  // Leaving the page stops what moves: say so, and only then.
  window.addEventListener("beforeunload", (event) => {
    if ([...rows].some((row) => row.state === "moving")) event.preventDefault();
  });
})();
