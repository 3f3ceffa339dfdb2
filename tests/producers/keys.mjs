// Key pairs as an app and a service would make them: node keys.mjs COUNT
import sodium from "libsodium-wrappers";

await sodium.ready;
const text = (bytes) => sodium.to_base64(bytes, sodium.base64_variants.ORIGINAL);
const pair = () => {
  const { publicKey, privateKey } = sodium.crypto_box_keypair();
  return { public: text(publicKey), secret: text(privateKey) };
};
console.log(JSON.stringify(Array.from({ length: Number(process.argv[2]) }, pair)));
