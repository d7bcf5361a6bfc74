/* Uploads by tus: many at once, paused, resumed after a lost link, a restart or a closed tab. */
(() => {
  "use strict";
  const zone = document.querySelector("[data-upload]");
  const list = document.querySelector("[data-upload-rows]");
  if (!zone || !window.tus?.isSupported) return;

  const PARALLEL = 2;
  const waiting = [];
  const moving = new Set();
  const csrf = document.body.dataset.csrf;
  const megabytes = (count) => `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
  const inTime = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`);

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

  const sentence = (error) => {
    const said = error?.originalResponse?.getBody?.();
    if (said && !said.startsWith("<")) return said;
    return "The connection was lost. The upload goes on where it stopped.";
  };

  class Row {
    constructor(file) {
      this.file = file;
      this.element = make("li", "upload");
      this.name = make("strong", "", file.name);
      this.bar = make("progress");
      this.bar.max = 100;
      this.bar.value = 0;
      this.bar.setAttribute("aria-label", `Upload of ${file.name}`);
      this.says = make("output", "hint", `${megabytes(file.size)}, waiting`);
      this.acts = make("span", "acts");
      this.element.append(this.name, this.bar, this.says, this.acts);
      list.append(this.element);
    }

    show(text, ...buttons) {
      this.says.textContent = text;
      this.acts.replaceChildren(...buttons);
    }

    refuse(text) {
      this.element.dataset.state = "failed";
      this.show(text, button("Remove", () => this.element.remove()));
    }

    begin() {
      moving.add(this);
      this.began = performance.now();
      this.first = null;
      this.upload = new tus.Upload(this.file, {
        endpoint: zone.dataset.endpoint,
        chunkSize: 64 * 1024 * 1024,
        retryDelays: [0, 500, 1000, 3000, 5000, 10000, 20000, 30000],
        metadata: {
          filename: this.file.name,
          filetype: this.file.type,
          pipeline: document.getElementById("upload-pipeline")?.value || "",
        },
        removeFingerprintOnSuccess: true,
        headers: { "X-CSRFToken": csrf },
        onProgress: (sent, total) => this.progress(sent, total),
        onSuccess: ({ lastResponse }) => this.done(lastResponse),
        onError: (error) => this.failed(error),
      });
      this.upload.findPreviousUploads().then((before) => {
        if (before.length) this.upload.resumeFromPreviousUpload(before[0]);
        this.start();
      });
    }

    start() {
      this.began = performance.now();
      this.first = null;
      this.show("starting", this.pauseButton(), this.removeButton());
      this.upload.start();
    }

    pauseButton() {
      return button("Pause", () => {
        this.upload.abort();
        moving.delete(this);
        this.show("paused", button("Resume", () => { moving.add(this); this.start(); }), this.removeButton());
        pump();
      });
    }

    removeButton() {
      return button("Remove", () => {
        this.upload.abort(true).catch(() => {});
        this.leave();
        this.element.remove();
      });
    }

    progress(sent, total) {
      this.bar.value = (sent / total) * 100;
      this.first ??= sent;
      const seconds = (performance.now() - this.began) / 1000;
      const speed = (sent - this.first) / Math.max(seconds, 0.1);
      const left = speed > 0 && seconds > 1 ? `, ${megabytes(speed)}/s, about ${inTime((total - sent) / speed)} left` : "";
      this.says.textContent = `${Math.floor((sent / total) * 100)} % of ${megabytes(total)}${left}`;
      if (!this.acts.firstChild) this.acts.append(this.pauseButton(), this.removeButton());
    }

    done(response) {
      const job = response.getHeader("Mediapipe-Job");
      const older = response.getHeader("Mediapipe-Duplicate");
      this.forget();
      this.leave();
      if (job) {
        this.element.remove();
      } else if (older) {
        this.bar.value = 100;
        const open = make("a", "link", "Open it");
        open.href = older;
        this.show("You uploaded the same file before.", open, button("Run it again", () => this.again()), button("Remove", () => this.element.remove()));
      }
      document.body.dispatchEvent(new CustomEvent("refresh"));
    }

    async again() {
      const answer = await fetch(`${this.upload.url}run/`, {
        method: "POST",
        headers: { "X-CSRFToken": csrf, "Tus-Resumable": "1.0.0" },
      });
      if (!answer.ok) return this.refuse(await answer.text());
      this.element.remove();
      document.body.dispatchEvent(new CustomEvent("refresh"));
    }

    failed(error) {
      this.leave();
      this.element.dataset.state = "failed";
      this.show(sentence(error), button("Try again", () => { delete this.element.dataset.state; moving.add(this); this.start(); }), this.removeButton());
    }

    leave() {
      moving.delete(this);
      pump();
    }

    remember() {
      return `upload:${this.file.name}:${this.file.size}`;
    }

    forget() {
      localStorage.removeItem(this.remember());
    }
  }

  const pump = () => {
    while (moving.size < PARALLEL && waiting.length) waiting.shift().begin();
  };

  const take = (files) => {
    for (const file of files) {
      const row = new Row(file);
      const kind = file.type.split("/")[0];
      if (!file.size) row.refuse("This file is empty (0 bytes). Choose a file with something in it.");
      else if (["text", "image", "font"].includes(kind)) row.refuse("This is not a video or audio file. Choose another one.");
      else waiting.push(row);
    }
    pump();
  };

  const chooser = zone.querySelector("input[type=file]");
  chooser.addEventListener("change", () => {
    take(chooser.files);
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
    take(event.dataTransfer.files);
  });

  // Leaving the page stops what moves: say so, and only then.
  window.addEventListener("beforeunload", (event) => {
    for (const row of moving) localStorage.setItem(row.remember(), JSON.stringify({ name: row.file.name, percent: Math.floor(row.bar.value) }));
    if (moving.size) event.preventDefault();
  });
  for (const key of Object.keys(localStorage).filter((each) => each.startsWith("upload:"))) {
    const { name, percent } = JSON.parse(localStorage.getItem(key));
    const item = make("li", "upload");
    const dismiss = button("Dismiss", () => { localStorage.removeItem(key); item.remove(); });
    item.append(make("output", "hint", `${name} stopped at ${percent} %: choose it again to go on.`), dismiss);
    list.append(item);
    chooser.addEventListener("change", () => item.remove(), { once: true });
  }
})();
