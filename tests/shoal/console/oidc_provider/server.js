// An identity provider on https://localhost, for tests. The name that is entered at its sign-in
// decides the claims: "ana|acme|editor" is ana of the tenant acme with the role editor.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { Provider } from "oidc-provider";

const { port, folder, redirectUris, postLogoutRedirectUris } = JSON.parse(process.argv[2]);

const provider = new Provider(`https://localhost:${port}`, {
  clients: [
    {
      client_id: "shoal",
      client_secret: "the secret / of the client",
      redirect_uris: redirectUris,
      post_logout_redirect_uris: postLogoutRedirectUris,
    },
  ],
  claims: { openid: ["sub", "tenant", "role"] },
  conformIdTokenClaims: false,
  cookies: { keys: ["a key of the tests"] },
  pkce: { required: () => true },
  features: { rpInitiatedLogout: { enabled: true } },
  ttl: { IdToken: 3600, AccessToken: 3600, Grant: 3600, Interaction: 3600, Session: 3600 },
  findAccount: (_, id) => {
    const [, tenant, role] = id.split("|");
    return { accountId: id, claims: () => ({ sub: id.split("|")[0], tenant, role }) };
  },
});

const tls = { key: readFileSync(`${folder}/key.pem`), cert: readFileSync(`${folder}/cert.pem`) };
createServer(tls, provider.callback()).listen(port, "127.0.0.1", () => console.log("ready"));
