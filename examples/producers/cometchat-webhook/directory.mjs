// Who has which phones. Here a JSON file; in your service the table in which
// the app's registrations are kept (see docs/clients/README.md, "What to store").
import { readFile } from "node:fs/promises";

/** The devices of a user, or of all members of a group but one. */
export async function devicesOf({ type, id, except }) {
  const { users, groups } = JSON.parse(await readFile(process.env.DIRECTORY_FILE, "utf8"));
  const members = type === "group" ? (groups[id] ?? []) : [id];
  return members.filter((uid) => uid !== except).flatMap((uid) => users[uid]?.devices ?? []);
}
