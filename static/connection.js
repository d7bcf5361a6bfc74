/* What a page says when it can't be live: one strip above it, for a lost connection and for a lost session.

   The page below stays as it was, with all that was typed; what is asked meanwhile is not sent into nothing. */

const MISSES = 2; // polls without an answer, after which the connection counts as lost
const PATIENCE = 5000; // milliseconds between two polls of a page that is signed out

const strip = document.getElementById("strip");
let state = ""; // "", "lost" or "signed-out"
let misses = 0;
let asOf = new Date();
let askedAt = 0;

/** Whether leaving the page would lose something: text in a field, or a file on its way. */
const atStake = () =>
  document.querySelector("#tray[data-busy]") ||
  [
    ...document.querySelectorAll("main input:not([type=hidden], [type=checkbox], [type=file]), textarea"),
  ].some((field) => field.value !== field.defaultValue);

/** The way to sign in: back to this page, or in another tab where this one has something to lose. */
const createSignIn = () => {
  const link = document.createElement("a");
  link.className = "link";
  link.textContent = "Sign in";
  link.href = `${strip.dataset.login}?next=${encodeURIComponent(location.pathname + location.search)}`;
  if (atStake()) Object.assign(link, { target: "_blank", rel: "noopener" });
  return link;
};

const show = (next) => {
  if (state === next) return;
  state = next;
  strip.hidden = !state;
  document.documentElement.classList.toggle("lost", Boolean(state));
  const time = asOf.toLocaleTimeString([], { hour12: false });
  if (state === "signed-out")
    strip.replaceChildren("You’ve been signed out. ", createSignIn(), " to continue.");
  if (state === "lost") strip.textContent = `Connection lost. You’re seeing ${time}. Trying again…`;
};

const answered = (status) => {
  if (status === 401) return show("signed-out");
  if (status >= 500) return missed();
  asOf = new Date();
  misses = 0;
  return show("");
};

const missed = () => {
  misses += 1;
  if (misses >= MISSES && state !== "signed-out") show("lost");
};

/** Who is signed out is asked for less often: the page sees by itself that somebody has signed in. */
const ask = (event) => {
  const polled = event.detail.ctx?.sourceEvent?.type === "every";
  if (state === "signed-out" && polled && Date.now() - askedAt < PATIENCE) event.preventDefault();
  else askedAt = Date.now();
};

/** A form is kept while nobody would take it, and has the token of whoever is signed in by now. */
const keepForm = (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (state) {
    event.preventDefault();
    strip.animate([{ opacity: 0.4 }, { opacity: 1 }], 300);
    return;
  }
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
  const field = form.elements.namedItem("csrfmiddlewaretoken");
  if (token && field) field.value = token;
};

document.addEventListener("htmx:before:request", ask);
document.addEventListener("htmx:after:request", (event) => answered(event.detail.ctx.response.status));
document.addEventListener("htmx:error", (event) => {
  if (event.detail.ctx && !event.detail.ctx.response) missed();
});
document.addEventListener("submit", keepForm, true);
/** A page that polls nothing notices by itself, too, that the server is back or somebody has signed in. */
const probe = () => {
  if (!state || document.hidden) return;
  fetch(strip.dataset.asks, { headers: { "HX-Request": "true" } }).then(
    ({ status }) => answered(status),
    missed,
  );
};

document.addEventListener("visit", () => answered(200));
document.addEventListener("signed-out", () => show("signed-out"));
document.addEventListener("connection-lost", () => show("lost"));
window.addEventListener("focus", probe);
setInterval(probe, PATIENCE);
window.addEventListener("offline", () => show("lost"));
