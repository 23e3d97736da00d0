// Verifies a checkpoint (C2SP tlog-checkpoint) of an audit log without dicomshield: node checkpoint.mjs LOG PUBLIC_KEY CHECKPOINT
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const fail = (why) => { console.log(why); process.exit(1); };

// RFC 6962 2.1, as the recursion is written there
function root(leaves) {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return sha256(Buffer.of(0), leaves[0]);
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha256(Buffer.of(1), root(leaves.slice(0, k)), root(leaves.slice(k)));
}

const [log, publicKey, checkpoint] = process.argv.slice(2).map((path) => readFileSync(path));
const [, name, id, data] = /^([^+]+)\+([0-9a-f]{8})\+(\S+)\s*$/.exec(publicKey.toString()) ?? fail("public key");
const raw = Buffer.from(data, "base64");
if (raw.length !== 33 || raw[0] !== 1) fail("not Ed25519");
if (sha256(Buffer.from(`${name}\n`), raw).subarray(0, 4).toString("hex") !== id) fail("key ID");

const [body, signature] = checkpoint.toString().split("\n\n");
const [origin, size, head] = body.split("\n");
const signed = Buffer.from(signature.split(" ")[2], "base64");
if (origin !== name || signature.split(" ")[1] !== name || signed.subarray(0, 4).toString("hex") !== id) fail("origin");
const key = createPublicKey({ format: "jwk", key: { kty: "OKP", crv: "Ed25519", x: raw.subarray(1).toString("base64url") } });
if (!verify(null, Buffer.from(`${body}\n`), key, signed.subarray(4))) fail("signature");

const lines = [];
for (let at = 0, end; (end = log.indexOf(10, at)) >= 0; at = end + 1) lines.push(log.subarray(at, end));
if (lines.length < Number(size)) fail("truncated");
if (root(lines.slice(0, Number(size))).toString("base64") !== head) fail("root");
console.log(`ok ${size}`);
