// A node program: compresses pages and keeps them by their hash, each in a Buffer that was cut out
// of a larger one.
const crypto = require("crypto"), zlib = require("zlib");
const kept = new Map();

function page(number) {
  const read = Buffer.alloc(64 * 1024, `page ${number} `);
  read.writeUInt32LE(number * 2654435761 % 2 ** 32, 0);
  return read;
}
function keep(number) {
  const read = page(number);
  const hash = crypto.createHash("sha256").update(read).digest("hex");
  kept.set(hash, read.subarray(0, 100)); // holds all of it
  return zlib.deflateSync(read).length;
}
let bytes = 0;
for (let number = 0; number < 1000; number++) bytes += keep(number);
console.log(`kept ${kept.size}, ${bytes} bytes compressed`);
setTimeout(() => {}, 1000 * (process.argv[2] || 600));
