/* What the pages need beyond htmx: polling that sleeps in hidden tabs, keys, confirmations, the title. */
(() => {
  "use strict";

  // A hidden tab asks for nothing; it asks at once when it is seen again.
  document.addEventListener("htmx:before:request", (event) => {
    const trigger = event.detail.ctx?.sourceEvent?.type;
    if (document.hidden && (!trigger || trigger === "every")) event.preventDefault();
    const field = document.activeElement;
    const busy = field?.matches?.("input:not([type=checkbox]), select") && field.closest("#job-rows");
    if (busy && event.target.id === "job-rows") event.preventDefault(); // don't morph what is being typed in
  });

  const refresh = () => document.body.dispatchEvent(new CustomEvent("refresh"));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
  // Back brings an old page; it asks at once what is new.
  window.addEventListener("pageshow", (event) => {
    const came = performance.getEntriesByType("navigation")[0]?.type;
    if (event.persisted || came === "back_forward") refresh();
  });

  const tell = (text) => {
    if (document.hidden && window.Notification?.permission === "granted") new Notification(text);
  };

  // The tab says how the job stands: its title, its icon, and a notification to whoever asked for one.
  let stood;
  const retitle = () => {
    const page = document.getElementById("job-status") ?? document.getElementById("job-rows");
    if (!page) return;
    const { state, title } = page.dataset;
    document.title = `${title} · mediapipe`;
    const icon = document.querySelector("link[rel=icon]");
    icon.href = icon.dataset[state] ?? icon.dataset.plain;
    if (stood && stood !== state && !["running", "queued", "cancelling"].includes(state)) tell(title);
    stood = state;
    const offer = page.querySelector("[data-notify]");
    if (offer) offer.hidden = window.Notification?.permission !== "default";
  };
  document.addEventListener("htmx:after:swap", () => {
    retitle();
    for (const toast of document.querySelectorAll(".toast[data-tell]")) {
      tell(toast.dataset.tell);
      delete toast.dataset.tell;
    }
  });
  retitle();

  // Times are the reader's own; the page's stay where scripts are off.
  const localise = () => {
    for (const time of document.querySelectorAll("time[data-clock]")) {
      const at = new Date(time.dateTime);
      const text = at.toLocaleTimeString([], { hour12: false });
      if (time.textContent !== text) time.textContent = text;
      time.title = at.toLocaleString();
    }
  };
  document.addEventListener("htmx:after:swap", localise);
  localise();

  // A countdown runs on between two polls, by this machine's clock from when it was told.
  const ends = new WeakMap();
  const count = () => {
    for (const time of document.querySelectorAll("time[data-until]")) {
      const { until } = time.dataset;
      if (ends.get(time)?.until !== until)
        ends.set(time, { until, at: Date.now() + parseInt(time.textContent) * 1000 });
      const text = `${Math.max(0, Math.round((ends.get(time).at - Date.now()) / 1000))} s`;
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(count, 500);
  document.addEventListener("htmx:after:swap", count);

  const copied = (button) => {
    const before = button.title;
    button.title = "Copied";
    button.classList.add("copied");
    setTimeout(() => {
      button.title = before;
      button.classList.remove("copied");
    }, 1500);
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-link], [data-notify]");
    if (!button) return;
    if ("notify" in button.dataset) {
      await Notification.requestPermission();
      button.hidden = true;
      return;
    }
    const { copy, link } = button.dataset;
    await navigator.clipboard.writeText(
      link ? new URL(link, location.href).href : await (await fetch(copy)).text(),
    );
    copied(button);
  });

  // What stops work is asked about first; without scripts the button just does it.
  const sure = document.getElementById("sure");
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-confirm]");
    if (!button) return;
    event.preventDefault();
    document.getElementById("sure-text").textContent = button.dataset.confirm;
    sure.returnValue = "no";
    sure.addEventListener("close", () => sure.returnValue === "yes" && button.form.requestSubmit(button), {
      once: true,
    });
    sure.showModal();
  });

  // One click is enough: a form that is on its way is not sent twice.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "1";
    setTimeout(() => delete form.dataset.sent, 4000);
  });

  // Previews: the list's posters move under the pointer, a waveform and a filmstrip lead into the film.
  for (const [name, key] of [
    ["mouseover", "preview"],
    ["mouseout", "still"],
  ]) {
    document.addEventListener(name, (event) => {
      const image = event.target.closest?.(".poster")?.querySelector("img[data-preview]");
      if (!image) return;
      image.dataset.still ??= image.src;
      image.src = image.dataset[key];
    });
  }

  // Not every browser plays HLS by itself; there the stream is a file to copy the link of.
  const plays = document.createElement("video").canPlayType("application/vnd.apple.mpegurl");
  document.documentElement.classList.toggle("no-hls", !plays);

  const go = (player, seconds) => {
    if (!player) return;
    player.currentTime = seconds;
    player.play().catch(() => {});
  };

  const drawWaveform = async (picture) => {
    const { peaks, duration } = await (await fetch(picture.dataset.peaks)).json();
    const loudest = Math.max(...peaks, 0.01);
    const step = 800 / peaks.length;
    const line = peaks.map(
      (peak, at) =>
        `M${(at * step).toFixed(1)} ${(30 - (peak / loudest) * 29).toFixed(1)}V${(30 + (peak / loudest) * 29).toFixed(1)}`,
    );
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", line.join(""));
    picture.append(path);
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      go(document.getElementById("sound"), ((event.clientX - box.left) / box.width) * duration);
    });
  };

  const layFilmstrip = (strip) => {
    const { src, interval, count } = strip.dataset;
    const sprite = new Image();
    sprite.addEventListener("load", () => {
      const wide = sprite.naturalWidth / 10;
      const high = sprite.naturalHeight / Math.ceil(count / 10);
      for (let at = 0; at < count; at++) {
        const frame = document.createElement("canvas");
        [frame.width, frame.height] = [wide, high];
        frame
          .getContext("2d")
          .drawImage(sprite, (at % 10) * wide, Math.floor(at / 10) * high, wide, high, 0, 0, wide, high);
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("aria-label", `Go to ${Math.round(at * interval)} seconds`);
        button.append(frame);
        button.addEventListener("click", () => go(document.querySelector(".media video"), at * interval));
        strip.append(button);
      }
    });
    sprite.src = src;
  };

  const dressPreviews = () => {
    for (const [id, dress] of [
      ["waveform", drawWaveform],
      ["filmstrip", layFilmstrip],
    ]) {
      const element = document.getElementById(id);
      if (!element || element.dataset.dressed) continue;
      element.dataset.dressed = "1";
      dress(element);
    }
  };
  document.addEventListener("htmx:after:swap", dressPreviews);
  dressPreviews();

  // Keys for the list: / searches, u uploads, j and k go through the jobs, Enter opens.
  const jobs = () => [...document.querySelectorAll(".job h2 a")];
  const step = (by) => {
    const all = jobs();
    const next = all[all.indexOf(document.activeElement) + by];
    (next || all[by > 0 ? 0 : all.length - 1])?.focus();
  };
  const press = (what) =>
    document.activeElement.closest(".job")?.querySelector(`button[formaction$="/${what}/"]`)?.click();
  const keys = {
    "/": () => document.getElementById("q")?.focus(),
    u: () => document.getElementById("upload-file")?.click(),
    j: () => step(1),
    k: () => step(-1),
    r: () => press("retry"),
    c: () => press("cancel"),
    "?": () => document.getElementById("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, video, audio")) return;
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
})();
