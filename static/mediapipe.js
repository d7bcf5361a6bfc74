/* What the pages need beyond htmx: polling that pauses in hidden tabs, the tab's title, times, previews,
   confirmations and keyboard shortcuts. Every page works without it. */

const ACTIVE_STATES = ["running", "queued", "cancelling"];
const DOUBLE_CLICK = 4000; // milliseconds in which a form isn't sent twice
const WAVEFORM = { width: 800, height: 60 }; // the svg's viewBox
// A cue of a storyboard's WebVTT: when it begins, and which part of which picture it shows.
const STORYBOARD_CUE = /^(?:(\d+):)?(\d+):([\d.]+) -->.*\r?\n(.+)#xywh=(\d+),(\d+),(\d+),(\d+)/gm;

/** Makes the polled parts of the page ask now. */
const refresh = () => document.body.dispatchEvent(new CustomEvent("refresh"));

/** A hidden tab doesn't poll, and a list isn't replaced while somebody types in it. */
const skipPoll = (event) => {
  const trigger = event.detail.ctx?.sourceEvent?.type;
  const field = document.activeElement;
  const typing = field?.matches?.("input:not([type=checkbox]), select") && field.closest("#job-rows");
  if (document.hidden && (!trigger || trigger === "every")) event.preventDefault();
  if (typing && event.target.id === "job-rows") event.preventDefault();
};

/** Going back shows an old page: it asks at once what is new. */
const refreshOnReturn = (event) => {
  const navigation = performance.getEntriesByType("navigation")[0]?.type;
  if (event.persisted || navigation === "back_forward") refresh();
};

const notify = (text) => {
  if (document.hidden && window.Notification?.permission === "granted") new Notification(text);
};

let lastState;
/** Shows a job's or the list's state in the tab's title and icon, and notifies when a job has ended. */
const updateTab = () => {
  const page = document.getElementById("job-status") ?? document.getElementById("job-rows");
  if (!page) return;
  const { state, title } = page.dataset;
  document.title = `${title} · mediapipe`;
  const icon = document.querySelector("link[rel=icon]");
  icon.href = icon.dataset[state] ?? icon.dataset.plain;
  if (lastState && lastState !== state && !ACTIVE_STATES.includes(state)) notify(title);
  lastState = state;
  const offer = page.querySelector("[data-notify]");
  if (offer) offer.hidden = window.Notification?.permission !== "default";
};

const notifyToasts = () => {
  for (const toast of document.querySelectorAll(".toast[data-new]")) {
    notify(toast.innerText);
    delete toast.dataset.new;
  }
};

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

/** Shows times in the reader's time zone; without scripts the server's stay. */
const localiseTimes = () => {
  for (const time of document.querySelectorAll("time[data-clock]")) {
    const date = new Date(time.dateTime);
    setText(time, date.toLocaleTimeString([], { hour12: false }));
    time.title = date.toLocaleString();
  }
};

const countdowns = new WeakMap(); // by element: {until, end}
/** Counts down between two polls, by this machine's clock: the server's may differ. */
const updateCountdowns = () => {
  for (const time of document.querySelectorAll("time[data-until]")) {
    const { until } = time.dataset;
    if (countdowns.get(time)?.until !== until) {
      countdowns.set(time, { until, end: Date.now() + Number.parseInt(time.textContent, 10) * 1000 });
    }
    const seconds = Math.round((countdowns.get(time).end - Date.now()) / 1000);
    setText(time, `${Math.max(0, seconds)} s`);
  }
};

/** Says in the bulk bar how many jobs are selected. */
const updateSelection = () => {
  const output = document.getElementById("selected");
  if (!output) return;
  const count = document.querySelectorAll("[name=job]:checked").length;
  setText(output, document.querySelector("[name=matching]:checked") ? "All selected" : `${count} selected`);
};

const showCopied = (button) => {
  const title = button.title;
  button.title = "Copied";
  button.classList.add("copied");
  setTimeout(() => {
    button.title = title;
    button.classList.remove("copied");
  }, 1500);
};

/** Copies a link (data-link), or what an address answers (data-copy). */
const copy = async (event) => {
  const button = event.target.closest("[data-copy], [data-link]");
  if (!button) return;
  const { copy: address, link } = button.dataset;
  const text = link ? new URL(link, location.href).href : await (await fetch(address)).text();
  await navigator.clipboard.writeText(text);
  showCopied(button);
};

const allowNotifications = async (event) => {
  const button = event.target.closest("[data-notify]");
  if (!button) return;
  await Notification.requestPermission();
  button.hidden = true;
};

/** Asks before a button stops work; without scripts the button acts at once. */
const askFirst = (event) => {
  const button = event.target.closest("button[data-confirm]");
  if (!button) return;
  event.preventDefault();
  const dialog = document.getElementById("confirm");
  const submit = () => dialog.returnValue === "yes" && button.form.requestSubmit(button);
  document.getElementById("confirm-text").textContent = button.dataset.confirm;
  dialog.returnValue = "no";
  dialog.addEventListener("close", submit, { once: true });
  dialog.showModal();
};

const submitOnce = (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  setTimeout(() => delete form.dataset.sent, DOUBLE_CLICK);
};

/** Shows what a row's poster has under the pointer ("preview": the animated one), or else ("still"). */
const showPoster = (event, which) => {
  const image = event.target.closest?.(".poster")?.querySelector("img[data-preview]");
  if (!image) return;
  image.dataset.still ??= image.src;
  image.src = image.dataset[which];
};

const playFrom = (player, seconds) => {
  if (!player) return;
  player.currentTime = seconds;
  player.play().catch(() => {});
};

/** Draws the audio's peaks; a click plays from there. */
const drawWaveform = async (svg) => {
  const { peaks, duration } = await (await fetch(svg.dataset.peaks)).json();
  const middle = WAVEFORM.height / 2;
  const scale = (middle - 1) / Math.max(...peaks, 0.01);
  const step = WAVEFORM.width / peaks.length;
  const lines = peaks.map((peak, index) => {
    const half = peak * scale;
    return `M${(index * step).toFixed(1)} ${(middle - half).toFixed(1)}V${(middle + half).toFixed(1)}`;
  });
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", lines.join(""));
  svg.append(path);
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    playFrom(document.getElementById("sound"), ((event.clientX - box.left) / box.width) * duration);
  });
};

const loadImage = async (src) => {
  const image = new Image();
  image.src = src;
  await image.decode();
  return image;
};

/** A frame of the storyboard's picture, as a button that plays from there. */
const createFrame = (sprite, seconds, [left, top, width, height]) => {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").drawImage(sprite, left, top, width, height, 0, 0, width, height);
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", `Go to ${Math.round(seconds)} seconds`);
  button.append(canvas);
  button.addEventListener("click", () => playFrom(document.querySelector(".media video"), seconds));
  return button;
};

/** Lays out the frames that the storyboard's WebVTT names. */
const drawFilmstrip = async (strip) => {
  const url = new URL(strip.dataset.vtt, location.href);
  const text = await (await fetch(url)).text();
  const sprites = {};
  for (const [, hours = 0, minutes, seconds, src, ...box] of text.matchAll(STORYBOARD_CUE)) {
    sprites[src] ??= await loadImage(new URL(src, url));
    const start = hours * 3600 + minutes * 60 + Number(seconds);
    strip.append(createFrame(sprites[src], start, box.map(Number)));
  }
};

const drawOnce = (id, draw) => {
  const element = document.getElementById(id);
  if (!element || element.dataset.drawn) return;
  element.dataset.drawn = "1";
  draw(element);
};

const focusJob = (step) => {
  const links = [...document.querySelectorAll(".job h2 a")];
  const next = links[links.indexOf(document.activeElement) + step];
  (next ?? links.at(step > 0 ? 0 : -1))?.focus();
};

/** Clicks the focused job's button for an action. */
const clickAction = (action) => {
  const row = document.activeElement.closest(".job");
  row?.querySelector(`button[formaction$="/${action}/"]`)?.click();
};

const SHORTCUTS = {
  "/": () => document.getElementById("q")?.focus(),
  u: () => document.getElementById("upload-file")?.click(),
  j: () => focusJob(1),
  k: () => focusJob(-1),
  r: () => clickAction("retry"),
  c: () => clickAction("cancel"),
  "?": () => document.getElementById("help").showModal(),
};

const handleKey = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !SHORTCUTS[event.key]) return;
  if (event.target.closest("input, select, textarea, video, audio")) return;
  event.preventDefault();
  SHORTCUTS[event.key]();
};

/** Brings a new page, or a part that has just been swapped in, up to date. */
const update = () => {
  updateTab();
  notifyToasts();
  localiseTimes();
  updateCountdowns();
  updateSelection();
  drawOnce("waveform", drawWaveform);
  drawOnce("filmstrip", drawFilmstrip);
};

// Where a browser can't play HLS, its player is hidden: the stream stays a link.
const playsHls = document.createElement("video").canPlayType("application/vnd.apple.mpegurl");
document.documentElement.classList.toggle("no-hls", !playsHls);

document.addEventListener("htmx:before:request", skipPoll);
document.addEventListener("htmx:after:swap", update);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
window.addEventListener("pageshow", refreshOnReturn);
document.addEventListener("change", updateSelection);
document.addEventListener("click", copy);
document.addEventListener("click", allowNotifications);
document.addEventListener("click", askFirst);
document.addEventListener("submit", submitOnce);
document.addEventListener("mouseover", (event) => showPoster(event, "preview"));
document.addEventListener("mouseout", (event) => showPoster(event, "still"));
document.addEventListener("keydown", handleKey);
setInterval(updateCountdowns, 500);
update();
