/* Uploads: files are chosen, dropped or pasted on any page, two are sent at a time, and each continues after a
   lost connection, a restart or a closed tab.

   The server says what has arrived: it lists unfinished uploads, and a file that is chosen again continues
   there. Without scripts the form uploads. */

const { Tray, UploadRow, createButton, deleteUpload, fileKey, request } = globalThis.uploads;

const PARALLEL = 2;
const SILENCE = 90; // seconds without a byte, after which a connection counts as lost
const NOT_MEDIA_TYPES =
  /^(text|image(?!\/gif)|font|message|model)\/|^application\/(pdf|g?zip|json|xml|msword|rtf|javascript)/;
const ARCHIVES_AND_DOCUMENTS = /^application\/(x-(zip|7z|rar|tar|gzip|sh)|vnd\.(openxml|ms-|oasis|rar))/;
const MEDIA_NAMES = /\.(m?ts|m2ts|mxf|vob|dv)$/i; // some systems report these as text
const EMPTY = "This file is empty (0 bytes).";
const NOT_MEDIA = "This isn’t a video or audio file, so it wasn’t uploaded.";
const FOLDER = "Folders can’t be uploaded. Open it and choose the files inside.";

const element = document.getElementById("tray");
const list = document.getElementById("tray-rows");
const overlay = document.getElementById("drop-here");
const rows = new Set(); // UploadRow
const tray = new Tray(element, rows);
const unfinished = new Map(); // by file key: {element, url} of what the server has of a file
const announcer = document.createElement("output"); // for screen readers: changes, not each percent
announcer.className = "vh";

/** Loads the tus client when the first file is to be sent: who only looks needn’t fetch it.
    Its id isn’t "tus": an element’s id is a global name, and would pass for the client. */
const loadTus = () => {
  if (document.getElementById("tus-client")) return;
  const script = Object.assign(document.createElement("script"), {
    id: "tus-client",
    src: element.dataset.tus,
  });
  script.addEventListener("load", () => queue.startNext());
  script.addEventListener("error", () => {
    script.remove();
    setTimeout(queue.startNext, 3000);
  });
  document.head.append(script);
};

/** What a row may ask for; the one place that knows all rows. */
const queue = {
  endpoint: element.dataset.endpoint,
  digest: element.dataset.digest,
  get pipeline() {
    return element.dataset.pipeline;
  },
  /** Where to sign in: in another tab, which leads to the page that is shown here. */
  get signInUrl() {
    return `${element.dataset.login}?next=${encodeURIComponent(location.pathname + location.search)}`;
  },
  changed: () => tray.update(),
  /** Starts waiting rows in their order, while fewer than PARALLEL are sending. */
  startNext() {
    const sending = [...rows].filter((row) => ["uploading", "interrupted"].includes(row.state));
    const waiting = [...rows].filter((row) => row.state === "waiting");
    if (waiting.length && !globalThis.tus) return loadTus();
    for (const row of waiting.slice(0, Math.max(0, PARALLEL - sending.length))) row.start();
  },
  remove(row) {
    rows.delete(row);
    row.element.remove();
    queue.startNext();
  },
  announce(text) {
    announcer.textContent = text;
  },
};

/** Loads what takes the tray from page to page: who uploads nothing leaves pages as browsers do. */
const goAlong = () => import(element.dataset.visit).catch(() => {});

const createRow = (file, url) => {
  goAlong();
  const row = new UploadRow(file, queue, url);
  list.append(row.element);
  rows.add(row);
  return row;
};

/** Why a file isn't sent at all; "" where it is. */
const refusal = (file) => {
  if (!file.size) return EMPTY;
  const refused = NOT_MEDIA_TYPES.test(file.type) || ARCHIVES_AND_DOCUMENTS.test(file.type);
  return refused && !MEDIA_NAMES.test(file.name) ? NOT_MEDIA : "";
};

/** Uploads a file, or shows why not; one that is on the page already continues in its row.
    @param replaces the job whose source it is to be */
const addFile = (file, refused = refusal(file), replaces = "") => {
  const key = fileKey(file.name, file.size, file.lastModified);
  const present = [...rows].find((row) => row.key === key && !["done", "failed"].includes(row.state));
  if (present) {
    present.element.scrollIntoView({ block: "nearest" });
    if (["paused", "interrupted", "signed-out"].includes(present.state)) present.enqueue();
    return;
  }
  const earlier = unfinished.get(key);
  unfinished.delete(key);
  earlier?.element.remove();
  const row = createRow(file, earlier?.url);
  row.replaces = replaces;
  if (refused) row.refuse(refused);
  else row.enqueue();
};

/** Asks the server to check an upload whose bytes have all arrived. */
const finishUpload = async (element, url, file) => {
  const message = element.querySelector(".message");
  message.textContent = "Checking the file…";
  try {
    const response = await request("HEAD", url);
    const text = response.headers.get("Mediapipe-Says");
    if (response.ok) {
      element.remove();
      createRow(file, url).finish((name) => response.headers.get(name));
    } else message.textContent = text ?? "The file couldn’t be checked. Reload the page to try again.";
  } catch {
    message.textContent = "Connection lost. Reload the page to try again.";
  }
};

/** Shows an upload that stopped earlier, until its file is chosen again. */
const restore = (element) => {
  const { stopped: url, name, size, modified, percent } = element.dataset;
  const key = fileKey(name, size, modified);
  element.hidden = false;
  if (percent === "100") finishUpload(element, url, { name, size: Number(size), lastModified: modified });
  else unfinished.set(key, { element, url });
  const remove = createButton("Remove", () => {
    deleteUpload(url);
    element.remove();
    unfinished.delete(key);
  });
  element.querySelector(".acts").append(remove);
};

const handleDrag = (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  overlay.hidden = false;
};

const handleDragLeave = (event) => {
  if (!event.relatedTarget) overlay.hidden = true;
};

const handleDrop = (event) => {
  overlay.hidden = true;
  if (!event.dataTransfer?.files.length) return;
  event.preventDefault();
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
  const folders = new Set(entries.filter((entry) => entry?.isDirectory).map((entry) => entry.name));
  for (const file of event.dataTransfer.files) {
    if (folders.has(file.name)) addFile(file, FOLDER);
    else addFile(file);
  }
};

/** Uploads what was chosen on the list, or by the button that every page has. */
const handleChoice = ({ target }) => {
  if (!target.matches("#upload-file, #choose-files")) return;
  for (const file of target.files) addFile(file);
  target.value = "";
};

/** Uploads the file that is to be a job's source, and goes back to the job's page. */
const replaceSource = (event) => {
  const form = event.target;
  const file = form.dataset.replaces && !form.elements.url.value && form.elements.file.files[0];
  if (!file) return;
  event.preventDefault();
  const refused = refusal(file);
  addFile(file, refused, form.dataset.replaces);
  if (!refused) goAlong().then(() => form.querySelector("a.button").click()); // else the upload stays behind
};

const openChooser = (event) => {
  if (!event.target.closest("[data-choose]") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  document.getElementById("choose-files").click();
};

/** Keeps which pipeline the next files go through, for this person. */
const choosePipeline = ({ target }) => {
  if (target.id !== "upload-pipeline") return;
  element.dataset.pipeline = target.value;
  const [chosen] = target.selectedOptions;
  document.getElementById("drop-pipeline").textContent = chosen.text.trim();
  document.getElementById("pipeline-says").textContent = chosen.title;
  request("POST", `${element.dataset.choice}?pipeline=${target.value}`).catch(() => {});
};

/** Pasted files are uploaded; a pasted link goes into the link field. */
const handlePaste = (event) => {
  for (const file of event.clipboardData?.files ?? []) addFile(file);
  const text = event.clipboardData?.getData("text/plain").trim();
  const field = document.getElementById("upload-url");
  if (!field || event.target.closest("input, textarea") || !/^https?:\/\/\S+$/i.test(text)) return;
  event.preventDefault();
  field.value = text;
  field.focus();
};

const resume = (state) => {
  for (const row of rows) if (row.state === state) row.enqueue();
};

const isListed = (row) => document.querySelector(`.job a[href="${row.job}"]`);

/** Closes the tray once nothing is on its way and every job is in the list; a filter may hide one. */
const removeListed = () => {
  const done = tray.in(["done"]);
  if (element.matches("[data-busy]") || !done.every(isListed)) return;
  for (const row of done) queue.remove(row);
};

const interruptSilent = () => {
  const limit = performance.now() - SILENCE * 1000;
  for (const row of rows) if (row.state === "uploading" && row.lastProgress < limit) row.interrupt();
};

const start = () => {
  list.after(announcer);
  for (const element of list.querySelectorAll("[data-stopped]")) restore(element);
  document.addEventListener("change", handleChoice);
  document.addEventListener("change", choosePipeline);
  document.addEventListener("click", openChooser);
  document.addEventListener("submit", replaceSource);
  document.addEventListener("dragenter", handleDrag);
  document.addEventListener("dragover", handleDrag);
  document.addEventListener("dragleave", handleDragLeave);
  document.addEventListener("drop", handleDrop);
  document.addEventListener("paste", handlePaste);
  for (const news of ["htmx:after:swap", "visit"]) document.addEventListener(news, removeListed);
  window.addEventListener("online", () => {
    resume("interrupted");
    document.body.dispatchEvent(new CustomEvent("refresh"));
  });
  window.addEventListener("focus", () => resume("signed-out"));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) resume("signed-out");
  });
  window.addEventListener("beforeunload", (event) => {
    if ([...rows].some((row) => row.state === "uploading")) event.preventDefault();
  });
  setInterval(interruptSilent, 5000);
  tray.update();
};

start();
