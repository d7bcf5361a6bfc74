/* Pages while files are on their way: the next one is fetched and put in this one's place, so that the tray
   and its uploads go along. With nothing on its way, and without scripts, links and forms are the browser's. */

const PARTS = ["top", "main", "news"]; // what differs from page to page, by id
const PAGE = /^\/(?!(admin|temporal|ittybit|media)\/)(.*\/)?$/;

const isBusy = () => document.querySelector("#tray[data-busy]");

/** The address that the page shows; a change of its fragment is no visit. */
const address = () => location.pathname + location.search;
let shown = address();

const announce = (name) => document.dispatchEvent(new CustomEvent(name));

/** Puts a fetched page in the place of this one. */
const show = (page) => {
  for (const id of PARTS) {
    const now = document.getElementById(id);
    const next = page.getElementById(id);
    if (now && next) now.replaceWith(next);
    else if (next) document.getElementById("main").after(next);
    else now?.remove();
    if (next) globalThis.htmx.process(next);
  }
  document.title = page.title;
  loadScripts(page);
};

/** Fetches what a page has of scripts and this one hasn't, such as those of a stream or of a check. */
const loadScripts = (page) => {
  const here = new Set([...document.scripts].map((script) => script.src));
  for (const { src, type } of page.querySelectorAll("head script[src]")) {
    if (!here.has(src)) document.head.append(Object.assign(document.createElement("script"), { src, type }));
  }
};

/** Fetches a page and shows it. One that says "sign in" is told in the strip: this page stays as it was. */
const visit = async (url, request, remember) => {
  document.documentElement.setAttribute("aria-busy", "true");
  const response = await fetch(url, request).catch(() => null);
  document.documentElement.removeAttribute("aria-busy");
  if (!response) return announce("connection-lost");
  const { login } = document.getElementById("tray").dataset;
  if (response.redirected && new URL(response.url).pathname === login) return announce("signed-out");
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (!page.getElementById("main")) return location.assign(url);
  show(page);
  if (remember) {
    history.replaceState({ ...history.state, scroll: scrollY }, "");
    history.pushState({}, "", response.url);
    scrollTo(0, 0);
  } else scrollTo(0, history.state?.scroll ?? 0);
  shown = address();
  announce("visit");
};

const followLink = (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || !isBusy() || event.button || event.ctrlKey || event.metaKey) return;
  if (link.origin !== location.origin || link.target || link.hash || event.shiftKey) return;
  if (!PAGE.test(link.pathname)) {
    link.target = "_blank"; // a file or another application: beside this page, this once
    setTimeout(() => link.removeAttribute("target"));
    return;
  }
  event.preventDefault();
  visit(link.href, {}, true);
};

const sendForm = (event) => {
  const form = event.target;
  const { submitter } = event;
  if (event.defaultPrevented || !isBusy() || form.matches("[method=dialog], .who")) return;
  event.preventDefault();
  const action = submitter?.getAttribute("formaction") ?? form.getAttribute("action") ?? "";
  const url = new URL(action, location.href);
  const fields = new FormData(form, submitter);
  if (form.getAttribute("method")?.toLowerCase() === "post")
    visit(url, { method: "POST", body: fields }, true);
  else {
    url.search = new URLSearchParams(fields);
    visit(url, {}, true);
  }
};

document.addEventListener("click", followLink);
document.addEventListener("submit", sendForm);
window.addEventListener("popstate", () => {
  if (address() !== shown) visit(location.href, {}, false);
});
