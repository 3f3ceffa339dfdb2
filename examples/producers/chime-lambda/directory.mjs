// Who has which phones. Here a JSON file; in your service the table in which
// the app's registrations are kept (see docs/clients/README.md, "What to store").
import { readFile } from "node:fs/promises";

/** `{id, name, avatar_url, devices: [...]}` of a user, or undefined. */
export async function findUser(id) {
  const users = JSON.parse(await readFile(process.env.DIRECTORY_FILE, "utf8"));
  return users[id];
}
