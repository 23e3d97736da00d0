// Reads a sealed object with nothing but node:crypto:  node cobblestone.mjs FILE < KEY_IN_HEX > PLAINTEXT
// After c2sp.org/chunked-encryption@v1 (Cobblestone-256); the context is the header in front of the salt.
import { createDecipheriv, createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync, writeSync } from "node:fs";

const [CHUNK, TAG, SALT, COMMITMENT] = [16384, 16, 24, 32];
const file = readFileSync(process.argv[2]);
const secret = Buffer.from(readFileSync(0, "utf8").trim(), "hex");
if (file.toString("latin1", 0, 8) !== "DCMSHLD1") throw new Error("no sealed object");

const context = file.subarray(0, 26 + file.readUInt16BE(24));
const salt = file.subarray(context.length, context.length + SALT);
const body = file.subarray(context.length + SALT + COMMITMENT);
const commitment = file.subarray(context.length + SALT, context.length + SALT + COMMITMENT);

const info = Buffer.concat([Buffer.from("c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"), salt, context]);
const hmac = (...parts) => createHmac("sha512", secret).update(Buffer.concat(parts)).digest();
const first = hmac(info, Buffer.from([1]));
const keys = Buffer.concat([first, hmac(first, info, Buffer.from([2]))]);
if (!timingSafeEqual(keys.subarray(44, 76), commitment)) throw new Error("wrong key");

for (let number = 0, at = 0; ; number++, at += CHUNK + TAG) {
  const sealed = body.subarray(at, at + CHUNK + TAG);
  if (sealed.length < TAG) throw new Error("cut off");
  const nonce = Buffer.from(keys.subarray(32, 44));
  nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ BigInt(number), 4);
  const cipher = createDecipheriv("aes-256-gcm", keys.subarray(0, 32), nonce);
  cipher.setAuthTag(sealed.subarray(sealed.length - TAG));
  let plain = Buffer.concat([cipher.update(sealed.subarray(0, sealed.length - TAG)), cipher.final()]);
  const last = plain.length < CHUNK;
  while (plain.length) plain = plain.subarray(writeSync(1, plain));
  if (last) break;
}
