/* "Notify me in this browser": asks the person, then the browser, and hands over what the browser answers. */

const form = document.querySelector("form[data-push]");

const bytes = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));

const subscribe = async () => {
  const registration = await navigator.serviceWorker.register(form.dataset.worker);
  await navigator.serviceWorker.ready;
  const before = await registration.pushManager.getSubscription();
  await before?.unsubscribe(); // it may be of another key
  const applicationServerKey = bytes(form.dataset.push);
  return registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
};

const say = (text) => {
  form.querySelector("button").removeAttribute("aria-busy");
  form.querySelector("[role=status]").textContent = text;
};

const ask = async (event) => {
  if (form.elements.address.value) return; // it is on its way
  event.preventDefault();
  event.submitter?.setAttribute("aria-busy", "true");
  if ((await Notification.requestPermission()) !== "granted") {
    say("This browser doesn’t allow notifications from here. Allow them in its settings, then try again.");
    return;
  }
  try {
    form.elements.address.value = JSON.stringify(await subscribe());
  } catch {
    say("This browser can’t reach its push service. Try again, or in another browser.");
    return;
  }
  form.requestSubmit(event.submitter);
};

if (form && "serviceWorker" in navigator && "PushManager" in window && "Notification" in window) {
  form.addEventListener("submit", ask);
  form.querySelector("button").disabled = false;
} else if (form) {
  say(
    "This browser offers it only over https, or on an iPhone once the page is on the home screen, or not at all.",
  );
}
