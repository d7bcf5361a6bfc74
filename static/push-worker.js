/* The service worker of Web Push: shows what arrives though no tab is open, and leads to it. It keeps nothing. */

const show = async (event) => {
  const { title, body, tag, url } = event.data.json();
  await self.registration.showNotification(title, { body, tag, data: { url } });
};

/** Opens the page that a message is about, on this very address, or the tab that shows it already. */
const open = async (url) => {
  const { pathname, search } = new URL(url);
  const here = new URL(pathname + search, self.location.origin).href;
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const shown = windows.find((each) => each.url === here);
  return shown ? shown.focus() : self.clients.openWindow(here);
};

self.addEventListener("push", (event) => event.waitUntil(show(event)));
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data.url));
});
