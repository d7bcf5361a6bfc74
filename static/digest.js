/* The SHA-256 of a file, read in slices, so that it may have gigabytes; fetched when one is to be compared.

   By hand, since crypto.subtle wants the whole file in memory, and a page that came by https. */

const SLICE = 1 << 21; // bytes; one takes some 10 ms
const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
const fraction = (root) => ((root % 1) * 2 ** 32) | 0;
const FACTORS = Int32Array.from(primes, (prime) => fraction(Math.cbrt(prime)));
const words = new Int32Array(64);

const turn = (word, by) => (word >>> by) | (word << (32 - by));

/** Mixes the 64 bytes of *view* from *at* into the *state*. */
const mix = (state, view, at) => {
  for (let i = 0; i < 16; i++) words[i] = view.getInt32(at + 4 * i);
  for (let i = 16; i < 64; i++) {
    const early = words[i - 15];
    const late = words[i - 2];
    const low = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
    const high = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
    words[i] = words[i - 16] + low + words[i - 7] + high;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const chosen = g ^ (e & (f ^ g));
    const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + chosen + FACTORS[i] + words[i]) | 0;
    const most = (a & b) | (c & (a | b));
    const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + most) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + second) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => {
    state[i] += word;
  });
};

/** The last bytes as SHA-256 wants them: a one, zeros, and the length of all in bits. */
const padded = (rest, size) => {
  const view = new DataView(new ArrayBuffer(rest.byteLength < 56 ? 64 : 128));
  new Uint8Array(view.buffer).set(new Uint8Array(rest));
  view.setUint8(rest.byteLength, 0x80);
  view.setBigUint64(view.byteLength - 8, BigInt(size) * 8n);
  return view;
};

/** The digest in hexadecimal. *goOn* is told the part that is read, and says whether to read on; "" if not. */
export const sha256 = async (file, goOn) => {
  const state = Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
  const whole = file.size - (file.size % 64);
  for (let from = 0; from < whole; from += SLICE) {
    const end = Math.min(from + SLICE, whole);
    const view = new DataView(await file.slice(from, end).arrayBuffer());
    for (let at = 0; at < view.byteLength; at += 64) mix(state, view, at);
    if (!goOn(end / file.size)) return "";
  }
  const last = padded(await file.slice(whole).arrayBuffer(), file.size);
  for (let at = 0; at < last.byteLength; at += 64) mix(state, last, at);
  return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
};
