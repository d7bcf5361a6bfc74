/* Plays an HLS stream in a browser that can't by itself, by hls.js: that is fetched when somebody wants to see
   one. The player is mediapipe.js's, which says when. */

const CANNOT = "The stream can’t be played here.";

let loading; // of hls.js
let hls;

const load = (src) =>
  new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src, onload: resolve, onerror: reject });
    document.head.append(script);
  });

/** Says on the button why nothing plays. */
const fail = (link) => {
  end();
  link.textContent = CANNOT;
};

/** Gives the player back to other versions. */
const end = () => {
  hls?.destroy();
  hls = undefined;
};

/** Plays the stream at *src*, from so many seconds on. */
const play = async (video, src, startPosition) => {
  const link = document.getElementById("play-hls");
  video.pause();
  link.setAttribute("aria-busy", "true");
  loading ??= load(link.dataset.by);
  const loaded = await loading.then(
    () => true,
    () => false,
  );
  link.removeAttribute("aria-busy");
  if (!loaded) loading = undefined; // the next click tries again
  if (video.dataset.plays !== "hls") return; // another version was chosen meanwhile
  const { Hls } = globalThis;
  if (!loaded || !Hls.isSupported()) return fail(link);
  hls = new Hls({ enableWorker: false, startPosition }); // a worker's code would be inline
  hls.on(Hls.Events.ERROR, (_, { fatal }) => fatal && fail(link));
  hls.loadSource(src);
  hls.attachMedia(video);
  video.play().catch(() => {});
};

const needed = !document.createElement("video").canPlayType("application/vnd.apple.mpegurl");
globalThis.stream = { needed, play, end };
document.addEventListener("visit", end);
