// The phone's side in JavaScript: opens what seal.py has sealed. Swift
// (swift-sodium), Kotlin (lazysodium) and Dart (sodium_libs) have the same
// function, crypto_box_open_easy.
import sodium from "libsodium-wrappers";

/**
 * `payload` is what the push brought: `sealed` (on Android as JSON text),
 * `call_uuid`, `expires_at`. `keys[kid]` are the device's secret keys,
 * `serviceKey` is the service's public key, which comes with the app.
 * Throws if it was not sealed by the service for this device and this call.
 */
export async function openSealed(payload, keys, serviceKey) {
  await sodium.ready;
  const sealed = typeof payload.sealed === "string" ? JSON.parse(payload.sealed) : payload.sealed;
  const key = keys[sealed.kid];
  if (!key) throw new Error(`no key ${sealed.kid}: register the device again`);
  const box = sodium.from_base64(sealed.ct, sodium.base64_variants.ORIGINAL);
  const nonce = box.subarray(0, sodium.crypto_box_NONCEBYTES);
  const ciphertext = box.subarray(sodium.crypto_box_NONCEBYTES);
  const plain = sodium.crypto_box_open_easy(ciphertext, nonce, serviceKey, key);
  const call = JSON.parse(sodium.to_string(plain));
  // What is in clear beside it could have been put together from another push.
  if (call.call_uuid !== payload.call_uuid) throw new Error("sealed for another call");
  return call;
}

// For trying out: node open.mjs < {"payload", "keys": {kid: base64}, "service_key": base64}
if (process.argv[1] === new URL(import.meta.url).pathname) {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const job = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  await sodium.ready;
  const bytes = (text) => sodium.from_base64(text, sodium.base64_variants.ORIGINAL);
  const keys = Object.fromEntries(Object.entries(job.keys).map(([kid, key]) => [kid, bytes(key)]));
  console.log(JSON.stringify(await openSealed(job.payload, keys, bytes(job.service_key))));
}
