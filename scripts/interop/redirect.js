'use strict';
// Loaded before firebase-admin (`node --require`): connections to Google's hosts go to the
// simulator. firebase-admin's own code is not touched; it does not know.
//
// SIMULATOR_FCM and SIMULATOR_TOKEN are the simulator's URLs; NODE_EXTRA_CA_CERTS names its CA.

const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const tls = require('node:tls');

const fcm = new URL(process.env.SIMULATOR_FCM);
const token = new URL(process.env.SIMULATOR_TOKEN);
const TOKEN_HOSTS = ['oauth2.googleapis.com', 'www.googleapis.com', 'accounts.google.com'];

// FCM: HTTP/2 over TLS. The name on the certificate is the simulator's.
const connect = tls.connect;
tls.connect = (...args) => {
  const options = args.find((a) => a && typeof a === 'object') ?? {};
  const host = options.servername || options.host || args.find((a) => typeof a === 'string');
  if (host !== 'fcm.googleapis.com') {
    if (/google/.test(String(host))) throw new Error(`interop must stay on loopback, not ${host}`);
    return connect(...args);
  }
  const ready = args.find((a) => typeof a === 'function');
  const servername = fcm.hostname === '127.0.0.1' ? '' : fcm.hostname;
  return connect(
    { ...options, host: fcm.hostname, port: Number(fcm.port), servername },
    ...(ready ? [ready] : []),
  );
};

// firebase-admin 13.10 writes `https:` into `:scheme`. Google takes that; nginx, h2 and RFC 9113
// (section 8.3.1) do not. This is the one thing that is put right on its way.
const connect2 = http2.connect;
http2.connect = (...args) => {
  const session = connect2(...args);
  const send = session.request.bind(session);
  session.request = (headers, ...rest) =>
    send({ ...headers, ':scheme': headers[':scheme']?.replace(/:$/, '') ?? 'https' }, ...rest);
  return session;
};

// The token server: a plain POST, http or https as the simulator has it.
const request = https.request;
https.request = (...args) => {
  const target = args[0] instanceof URL || typeof args[0] === 'string' ? new URL(args[0]) : null;
  const options = args.find((a) => a && typeof a === 'object' && !(a instanceof URL)) ?? {};
  const host = target?.hostname ?? options.hostname ?? options.host;
  if (!TOKEN_HOSTS.includes(host)) return request(...args);
  const ready = args.find((a) => typeof a === 'function');
  const there = {
    ...options,
    protocol: token.protocol,
    hostname: token.hostname,
    host: token.hostname,
    port: token.port,
    path: token.pathname,
    agent: undefined,
  };
  return (token.protocol === 'http:' ? http.request : request)(there, ready);
};
