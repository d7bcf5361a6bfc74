/* What the pages need beyond htmx: polling that pauses in hidden tabs, the tab's title, times, previews,
   confirmations and keyboard shortcuts. Every page works without it. */

const ACTIVE_STATES = ["running", "queued", "cancelling"];
const DOUBLE_CLICK = 4000; // milliseconds in which a form isn't sent twice
const TOAST = 7000; // milliseconds that an action's answer stays
const NEWS = 6000; // and a toast of what has ended
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

/** The hour and minute of a moment, by the reader's clock. */
const clock = (moment) =>
  new Date(moment).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });

let lastState;
/** Shows a job's or the list's state in the tab's title and icon, and notifies when a job has ended. */
const updateTab = () => {
  const page = document.getElementById("job-status") ?? document.getElementById("job-rows");
  if (!page) return;
  const { state, title, ready } = page.dataset;
  document.title = `${ready ? `Ready about ${clock(ready)} · ` : ""}${title} · mediapipe`;
  const icon = document.querySelector("link[rel=icon]");
  icon.href = icon.dataset[state] ?? icon.dataset.plain;
  if (lastState && lastState !== state && !ACTIVE_STATES.includes(state)) notify(title);
  lastState = state;
  const offer = page.querySelector("[data-notify]");
  if (offer) offer.hidden = window.Notification?.permission !== "default";
};

let places = new Map(); // by id: where the rows of the list lie, but for what moves them at the moment
const changes = new MutationObserver(() => glide()); // is told before what has changed is painted

const rememberPlaces = () => {
  places = new Map([...document.querySelectorAll(".job")].map((row) => [row.id, row.offsetTop]));
  const list = document.getElementById("job-rows");
  if (list) changes.observe(list, { childList: true, subtree: true });
};

/** Rows that a new one moves glide to their places; in a list that is scrolled the browser keeps them. */
const glide = () => {
  const before = places;
  rememberPlaces(); // the next answer may be on its way already
  if (scrollY || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of document.querySelectorAll(".job")) {
    const by = (before.get(row.id) ?? row.offsetTop) - row.offsetTop;
    if (by)
      row.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], {
        duration: 250,
        easing: "ease-out",
        composite: "add", // to an earlier one that still moves it
      });
  }
};

/** A toast leaves once it could be read; one that is pointed at, or in a hidden tab, stays. */
const leave = (toast) => {
  if (document.hidden || toast.matches(":hover, :focus-within")) setTimeout(leave, 1000, toast);
  else toast.remove();
};

/** Takes in new toasts. What needs somebody stays until they dismiss it, on the next pages too, and is one. */
const takeToasts = () => {
  for (const toast of document.querySelectorAll(".toast[data-new]")) {
    const { held } = toast.dataset;
    notify(toast.querySelector("p").innerText);
    delete toast.dataset.new;
    if (held) sessionStorage.setItem("held", held);
    else setTimeout(leave, NEWS, toast);
    for (const older of document.querySelectorAll(".toast[data-held]"))
      if (held && older !== toast) older.remove();
  }
};

/** Dismisses a toast by its button, or by its link: who follows that has seen it. */
const dismissToast = ({ target }) => {
  const toast = target.closest(".toast :is(a, button)")?.closest(".toast");
  if (toast?.dataset.held) sessionStorage.removeItem("held");
  toast?.remove();
};

/** Asks for news with what nobody has dismissed. */
const askForHeld = ({ target, detail }) => {
  if (target.closest("#news")) detail.ctx.request.body.set("held", sessionStorage.getItem("held") ?? "");
};

/** What an action said leaves by itself; the page below shows what came of it. */
const dismissToasts = () => {
  for (const toast of document.querySelectorAll(".toasts:not(:hover) .notice:not([data-level=error])"))
    toast.remove();
};

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const DAY = { day: "numeric", month: "short", year: "numeric" };

/** Puts a timeline's days where they begin for the reader, whose midnight isn't the server's. */
const divideByDay = (list) => {
  for (const day of list.querySelectorAll(":scope > .day")) day.remove();
  let last;
  for (const time of list.querySelectorAll(":scope > li > time[datetime]")) {
    const text = new Date(time.dateTime).toLocaleDateString("en-GB", DAY);
    if (text !== last) {
      const day = document.createElement("li");
      day.className = "day";
      day.textContent = text;
      time.parentElement.before(day);
    }
    last = text;
  }
};

/** Shows times in the reader's time zone; without scripts the server's stay. */
const localiseTimes = () => {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if ("clock" in time.dataset) setText(time, date.toLocaleTimeString([], { hour12: false }));
    if ("minute" in time.dataset) setText(time, clock(date));
    if ("moment" in time.dataset) {
      const day = time.dataset.moment === "year" ? DAY : { ...DAY, year: undefined };
      setText(time, `${date.toLocaleDateString("en-GB", day)}, ${clock(date)}`);
    }
    if ("date" in time.dataset) setText(time, date.toLocaleDateString("en-GB", DAY));
    time.title = date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "long" });
  }
  for (const list of document.querySelectorAll(".timeline")) divideByDay(list);
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

/** Says in the bulk bar how many jobs are selected, and offers what applies to some of them. */
const updateSelection = () => {
  const output = document.getElementById("selected");
  if (!output) return;
  const ticked = [...document.querySelectorAll("[name=job]:checked")].map((box) => box.dataset.state);
  const all = document.querySelector("[name=matching]:checked");
  setText(output, all ? "All selected" : `${ticked.length} selected`);
  for (const button of document.querySelectorAll(".bulk [data-states]")) {
    const states = button.dataset.states.split(" ");
    const many = all?.dataset[button.value] ?? `${ticked.filter((state) => states.includes(state)).length}`;
    setText(button.querySelector("b"), many);
    button.disabled = many === "0";
  }
};

let lastTick; // from which a click with shift selects
/** Selects the page's jobs, or with shift all from the last one that was clicked. */
const selectMany = ({ target, shiftKey }) => {
  const boxes = [...document.querySelectorAll("[name=job]")];
  if (target.closest("#select-page")) for (const box of boxes) box.checked = true;
  else if (!target.matches("[name=job]")) return;
  const [from, to] = [boxes.indexOf(lastTick), boxes.indexOf(target)].sort((a, b) => a - b);
  if (shiftKey && from >= 0) for (const box of boxes.slice(from, to)) box.checked = target.checked;
  if (boxes.includes(target)) lastTick = target;
  updateSelection();
};

const showCopied = (button) => {
  const { title } = button;
  const label = button.querySelector("[data-label]");
  const text = label?.textContent;
  button.title = "Copied";
  if (label) label.textContent = "Copied";
  button.classList.add("copied");
  setTimeout(() => {
    button.title = title;
    if (label) label.textContent = text;
    button.classList.remove("copied");
  }, 1500);
};

/** Puts a text into the clipboard, over plain http in an older way; whether it's there. */
const toClipboard = async (text) => {
  if (navigator.clipboard)
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  const field = Object.assign(document.createElement("textarea"), { value: text, className: "vh" });
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  return copied;
};

/** Copies a link (data-link), a text or what an address answers (data-copy); else shows it, for a copy by hand. */
const copy = async (event) => {
  const button = event.target.closest("[data-copy], [data-link], [data-text]");
  if (!button) return;
  const { copy: address, link, text: given } = button.dataset;
  const text = given ?? (link ? new URL(link, location.href).href : await (await fetch(address)).text());
  if (await toClipboard(text)) showCopied(button);
  else prompt("Copy this:", text);
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
  setText(dialog.querySelector("[value=yes]"), button.dataset.yes ?? "Cancel job");
  setText(dialog.querySelector("[value=no]"), button.dataset.no ?? "Keep running");
  dialog.returnValue = "no";
  dialog.addEventListener("close", submit, { once: true });
  dialog.showModal();
};

/** Asks in a dialog what a link's page asks: the form is that page's, and leads back to this one. */
const openDialog = async (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const response = await fetch(link.href).catch(() => null);
  const page = response && new DOMParser().parseFromString(await response.text(), "text/html");
  const form = page?.querySelector("main form");
  if (!form || response.redirected) return location.assign(link.href);
  const { next, query } = form.elements;
  if (next) next.value = location.pathname + location.search;
  if (query) query.value = location.search.slice(1);
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", form.querySelector("h1").textContent);
  dialog.append(form);
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (click) => {
    if (!click.target.closest("a.button")) return;
    click.preventDefault();
    dialog.close();
  });
  document.addEventListener("visit", () => dialog.close(), { once: true });
  dialog.showModal();
};

/** A button shows that it was pressed, until its page goes or an answer takes its place. */
const showBusy = (button) => {
  button?.setAttribute("aria-busy", "true");
  setTimeout(() => button?.removeAttribute("aria-busy"), DOUBLE_CLICK);
};

/** A form is sent once, and its button shows at once that it is; one that htmx sends may be sent again. */
const submitOnce = (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.matches("[hx-post]")) return showBusy(event.submitter);
  if (event.defaultPrevented) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  setTimeout(() => delete form.dataset.sent, DOUBLE_CLICK);
  showBusy(event.submitter);
};

/** Keeps fields that say nothing out of a search's address. */
const leaveOutEmpty = ({ target, formData }) => {
  if (!target.matches(".search")) return;
  for (const [name, value] of [...formData]) if (!value) formData.delete(name);
};

/** Shows what a row's poster has under the pointer ("preview": the animated one), or else ("still"). */
const showPoster = (event, which) => {
  const image = event.target.closest?.(".poster")?.querySelector("img[data-preview]");
  if (!image) return;
  image.dataset.still ??= image.src;
  image.src = image.dataset[which];
};

/** Fetches the frames' script when the pointer is first over a picture that has some. */
const fetchStoryboards = ({ target }) => {
  if (!target.closest?.(".poster, .gallery a")?.querySelector("[data-storyboard]")) return;
  document.removeEventListener("mouseover", fetchStoryboards);
  import(document.body.dataset.storyboards);
};

const playFrom = (player, seconds) => {
  if (!player) return;
  player.currentTime = seconds;
  player.play().catch(() => {});
};

/** Plays another version where the last one stood; an HLS stream by stream.js where the browser can't. */
const playVersion = (video, stage, src, start = !video.paused) => {
  const { currentTime } = video;
  globalThis.stream?.end();
  video.dataset.plays = stage;
  if (stage === "hls" && globalThis.stream?.needed) return globalThis.stream.play(video, src, currentTime);
  Object.assign(video, { src, currentTime });
  if (start) video.play().catch(() => {});
};

/** Gives the player its poster, and the web version as long as nobody has begun to watch; marks what plays. */
const updatePlayer = () => {
  const video = document.getElementById("player");
  if (!video) return;
  const { poster, shows, src } = video.parentElement.dataset;
  if (poster && !video.poster) video.poster = poster;
  const unwatched = video.paused && !video.currentTime && !video.dataset.chosen;
  if (unwatched && shows !== video.dataset.plays) playVersion(video, shows, src);
  for (const link of document.querySelectorAll("[data-play]"))
    link.toggleAttribute("aria-current", link.dataset.play === video.dataset.plays);
};

/** Keeps the time of the very frame that the player shows in the field beside "Use as thumbnail". */
const followFrames = () => {
  const video = document.getElementById("player");
  const field = document.getElementById("frame-at");
  if (!field || !video?.requestVideoFrameCallback || video.dataset.followed) return;
  video.dataset.followed = "1";
  const follow = (_, { mediaTime }) => {
    // Cut and not rounded: a time after the frame's own would be that of the next one.
    field.value = (Math.floor(mediaTime * 1000) / 1000).toFixed(3);
    document.getElementById("frame-of").value = video.dataset.plays;
    video.requestVideoFrameCallback(follow);
  };
  video.requestVideoFrameCallback(follow);
};

const chooseVersion = (event) => {
  const link = event.target.closest("a[data-play]");
  const video = document.getElementById("player");
  if (!link || !video || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  video.dataset.chosen = "1";
  playVersion(video, link.dataset.play, link.href, true);
  updatePlayer();
};

/** Plays a row's film or sound in the place of its poster; what a new tab is asked for stays a link. */
const playHere = (event) => {
  const link = event.target.closest("a[data-here]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const video = document.createElement("video");
  Object.assign(video, { src: link.dataset.here, controls: true, playsInline: true, className: "poster" });
  video.setAttribute("aria-label", link.getAttribute("aria-label"));
  link.replaceWith(video);
  video.focus();
  video.play().catch(() => {});
};

/** One sound at a time, but for two pictures that belong together. */
const pauseOthers = (event) => {
  const together = event.target.closest("[data-together]");
  for (const media of document.querySelectorAll("video, audio")) {
    if (media !== event.target && !together?.contains(media)) media.pause();
  }
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
  button.addEventListener("click", () => playFrom(document.getElementById("player"), seconds));
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
  if (!element?.matches("[data-peaks], [data-vtt]") || element.dataset.drawn) return;
  element.dataset.drawn = "1";
  draw(element);
};

const focusJob = (step) => {
  const links = [...document.querySelectorAll(".job h2 a")];
  const next = links[links.indexOf(document.activeElement) + step];
  (next ?? links.at(step > 0 ? 0 : -1))?.focus();
};

const showHelp = () => document.getElementById("help").showModal();

/** Clicks what the focused job's row has for a key, also where it is in the menu. */
const clickIn = (selector) => document.activeElement.closest(".job")?.querySelector(selector)?.click();

let lastKey = ""; // "g" begins "g h"

/** Follows the link of the head that leads to an address. */
const goTo = (path) => lastKey === "g" && document.querySelector(`#top nav a[href="${path}"]`)?.click();

const SHORTCUTS = {
  "/": () => document.getElementById("q")?.focus(),
  u: () => document.getElementById("choose-files")?.click(),
  j: () => (lastKey === "g" ? goTo("/") : focusJob(1)),
  k: () => focusJob(-1),
  x: () => clickIn("[name=job]"),
  o: () => clickIn("h2 a"),
  e: () => clickIn("a[href$='/rename/']"),
  r: () => clickIn("button[formaction$='/retry/']"),
  c: () => clickIn("button[formaction$='/cancel/']"),
  g: () => {},
  h: () => goTo("/history/"),
  "?": showHelp,
};

const handleKey = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !SHORTCUTS[event.key]) return;
  if (event.target.closest("input:not([type=checkbox]), select, textarea, video, audio, dialog")) return;
  event.preventDefault();
  SHORTCUTS[event.key]();
  lastKey = event.key;
};

/** Ways back to the list keep what was searched in it, as far as this tab has seen it. */
const keepSearch = () => {
  if (document.getElementById("job-rows")) sessionStorage.setItem("list", location.search);
  for (const link of document.querySelectorAll("[data-list]")) {
    link.search = sessionStorage.getItem("list") ?? "";
    if (link.search) link.title = ""; // it names the next job of all, and not of a search
  }
};

/** A search that was made while somebody typed stands in the address, as one that was sent. */
const showSearch = ({ detail }) => {
  const form = detail.ctx?.sourceElement;
  if (!form?.matches(".search")) return;
  history.replaceState(history.state, "", `?${new URLSearchParams(new FormData(form))}`);
};

/** Brings a new page, or a part that has just been swapped in, up to date. */
const update = () => {
  updateTab();
  takeToasts();
  localiseTimes();
  updateCountdowns();
  updateSelection();
  keepSearch();
  updatePlayer();
  followFrames();
  drawOnce("waveform", drawWaveform);
  drawOnce("filmstrip", drawFilmstrip);
};

/** Shows or hides what a telephone has no room for. */
const toggleMore = (event) => {
  const button = event.target.closest("#more");
  if (button) button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") !== "true"));
};

document.addEventListener("htmx:config:request", askForHeld);
document.addEventListener("htmx:before:request", skipPoll);
document.addEventListener("htmx:before:swap", rememberPlaces);
document.addEventListener("htmx:before:swap", showSearch);
document.addEventListener("htmx:after:swap", update);
document.addEventListener("visit", () => {
  lastState = undefined;
  update();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
window.addEventListener("pageshow", refreshOnReturn);
document.addEventListener("change", updateSelection);
document.addEventListener("click", selectMany);
document.addEventListener("reset", () => setTimeout(updateSelection));
document.addEventListener("click", copy);
document.addEventListener("click", dismissToast);
document.addEventListener("click", toggleMore);
document.addEventListener("click", openDialog);
document.addEventListener("click", (event) => event.target.closest("[data-help]") && showHelp());
document.addEventListener("click", ({ target }) =>
  target.closest("[popover] label")?.parentElement.hidePopover(),
);
document.addEventListener("click", allowNotifications);
document.addEventListener("click", chooseVersion);
document.addEventListener("click", playHere);
document.addEventListener("play", pauseOthers, true);
document.addEventListener("click", askFirst);
document.addEventListener("submit", submitOnce);
document.addEventListener("click", ({ target }) => showBusy(target.closest("button[hx-post]")));
document.addEventListener("formdata", leaveOutEmpty);
document.addEventListener("mouseover", (event) => showPoster(event, "preview"));
document.addEventListener("mouseover", fetchStoryboards);
document.addEventListener("mouseout", (event) => showPoster(event, "still"));
document.addEventListener("keydown", handleKey);
setInterval(updateCountdowns, 500);
setTimeout(() => setInterval(dismissToasts, 1000), TOAST);
update();
