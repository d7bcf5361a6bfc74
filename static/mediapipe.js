/* What the pages need beyond htmx: polling that sleeps in hidden tabs, keys, confirmations, the title. */
(() => {
  "use strict";

  // A hidden tab asks for nothing; it asks at once when it is seen again.
  document.addEventListener("htmx:before:request", (event) => {
    const trigger = event.detail.ctx?.sourceEvent?.type;
    if (document.hidden && (!trigger || trigger === "every")) event.preventDefault();
    const field = document.activeElement;
    const busy = field?.matches?.("#q, #sort") && field.closest("#job-rows");
    if (busy && event.target.id === "job-rows") event.preventDefault(); // don't morph what is being typed in
  });

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) document.body.dispatchEvent(new CustomEvent("refresh"));
  });

  // The tab says how the job stands.
  const retitle = () => {
    const page = document.getElementById("job-status");
    if (page) document.title = `${page.dataset.title} · mediapipe`;
  };
  document.addEventListener("htmx:after:swap", retitle);
  retitle();

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-confirm]");
    if (button && !window.confirm(button.dataset.confirm)) event.preventDefault();
  });

  // One click is enough: a form that is on its way is not sent twice.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "1";
    setTimeout(() => delete form.dataset.sent, 4000);
  });

  // Keys for the list: / searches, u uploads, j and k go through the jobs, Enter opens.
  const jobs = () => [...document.querySelectorAll(".job h2 a")];
  const step = (by) => {
    const all = jobs();
    const next = all[all.indexOf(document.activeElement) + by];
    (next || all[by > 0 ? 0 : all.length - 1])?.focus();
  };
  const keys = {
    "/": () => document.getElementById("q")?.focus(),
    u: () => document.getElementById("upload-file")?.click(),
    j: () => step(1),
    k: () => step(-1),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, video, audio")) return;
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
})();
