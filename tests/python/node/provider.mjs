// An OpenID provider on loopback: `oidc-provider` as its makers ship it, with a handful of clients and two resources.
//
// PROVIDER in the environment holds what it is to be; `{ port, issuer, keys, clientSecret, redirectUri, tls? }`. Once it listens, it
// answers one JSON question a line on standard input with one JSON answer a line on standard output.
import { createServer as createHttp } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { answerLines } from './lines.mjs';
import Provider from 'oidc-provider';

// The library's notices go where its warnings go: standard output is for answers.
console.info = console.error;

const settings = JSON.parse(process.env.PROVIDER);
const asked = new Map();
let callback = serve(settings.keys);

const server = settings.tls ? createHttps(settings.tls, handle) : createHttp(handle);
server.listen(settings.port, '127.0.0.1');

const operations = {
  // How often each path was asked for since the start.
  async asked() {
    return Object.fromEntries(asked);
  },

  // Signs with the first of these keys from now on, and publishes them all.
  async rotate({ keys }) {
    callback = serve(keys);
    return null;
  },
};

await answerLines(operations);
process.exit(0);

function handle(request, response) {
  const path = request.url.split('?')[0];
  asked.set(path, (asked.get(path) ?? 0) + 1);
  callback(request, response);
}

// What was issued is kept outside of the provider object, so a rotation loses nothing.
function serve(keys) {
  return new Provider(settings.issuer, {
    jwks: { keys },
    cookies: { keys: [settings.clientSecret] },
    clients: clients(),
    scopes: ['openid', 'offline_access', 'read', 'write'],
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    ttl: { AccessToken: 3600, ClientCredentials: 3600, IdToken: 3600, Grant: 3600, Interaction: 600, Session: 3600 },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => resourceServer(resource, keys[0].alg),
        useGrantedResource: () => true,
      },
    },
  }).callback();
}

function clients() {
  const secret = { client_secret: settings.clientSecret, token_endpoint_auth_method: 'client_secret_basic' };
  const none = { grant_types: [], response_types: [], redirect_uris: [] };
  return [
    { client_id: 'gateway', ...secret, ...none },
    { client_id: 'service', ...secret, ...none, grant_types: ['client_credentials'] },
    { client_id: 'site', ...secret, redirect_uris: [settings.redirectUri], grant_types: ['authorization_code'] },
  ];
}

// The audience of both is the gateway's; the form of the token tells them apart.
function resourceServer(resource, alg) {
  const form = { 'urn:api:jwt': 'jwt', 'urn:api:opaque': 'opaque' }[resource];
  if (form === undefined) throw new Error(`no such resource: ${resource}`);
  return { audience: 'api', scope: 'read write', accessTokenFormat: form, jwt: { sign: { alg } } };
}
