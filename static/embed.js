/* In a frame on another site: plays the HLS stream by hls.js where the browser can't by itself. That is fetched
   when somebody presses play; where it can't play either, the film's file does. */

const video = document.querySelector("video");
const { stream, by } = video.dataset;

/** Fetches hls.js: what it is called, undefined where it can't be had or can't play here. */
const load = () =>
  new Promise((resolve) => {
    const done = () => resolve(globalThis.Hls?.isSupported() ? globalThis.Hls : undefined);
    const script = document.createElement("script");
    document.head.append(Object.assign(script, { src: by, onload: done, onerror: done }));
  });

const play = () => video.play().catch(() => {});

const begin = async () => {
  const { currentSrc: file } = video;
  video.pause();
  const Hls = await load();
  if (!Hls) return play();
  const hls = new Hls({ enableWorker: false }); // a worker's code would be inline
  hls.on(Hls.Events.ERROR, (_, { fatal }) => {
    if (!fatal) return;
    hls.destroy();
    video.src = file;
    play();
  });
  hls.loadSource(stream);
  hls.attachMedia(video);
  play();
};

if (!video.canPlayType("application/vnd.apple.mpegurl"))
  video.addEventListener("play", begin, { once: true });
