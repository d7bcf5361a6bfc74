// Uploads a file by tus-js-client as its README does, or goes on where it stopped. Asked by JSON in argv[2].
import fs from "node:fs";
import { createRequire } from "node:module";

const asked = JSON.parse(process.argv[2]);
const tus = createRequire(`${asked.installed}/`)("tus-js-client");
let said = false;
const upload = new tus.Upload(fs.createReadStream(asked.file), {
  endpoint: asked.url,
  headers: { Authorization: `Bearer ${asked.token}` },
  metadata: { filename: asked.name },
  chunkSize: asked.part,
  urlStorage: new tus.FileUrlStorage(asked.memory),
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onChunkComplete: (size, accepted) => {
    if (asked.stop && accepted >= asked.stop) process.exit(0);
  },
  onProgress: (sent) => {
    if (previous && !said) console.log(`went on at ${sent}`);
    said = true;
  },
  onSuccess: () => console.log("done"),
});
const [previous] = await upload.findPreviousUploads();
if (previous) upload.resumeFromPreviousUpload(previous);
upload.start();
