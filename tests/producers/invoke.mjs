// Runs the Lambda once, as API Gateway would: node invoke.mjs USER BODY
import { handler } from "./index.mjs";

const [user, body] = process.argv.slice(2);
const requestContext = { authorizer: { jwt: { claims: { sub: user } } } };
console.log(JSON.stringify(await handler({ requestContext, body })));
