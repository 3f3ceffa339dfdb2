'use strict';
// Writes what a stock nginx needs to stand in for both providers, and a configuration that leads
// the worker there: gateway.js FOLDER PORT SIMULATOR

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const [folder, port, simulator] = process.argv.slice(2);
const at = (name) => path.join(folder, name);
const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' });
const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

openssl('req', '-x509', '-days', '2', ...curve, '-keyout', at('ca.key'), '-out', at('gateway-ca.pem'),
  '-subj', '/CN=interop CA', '-addext', 'keyUsage=critical,keyCertSign');
openssl('req', ...curve, '-keyout', at('server.key'), '-out', at('server.csr'), '-subj', '/CN=localhost');
fs.writeFileSync(at('server.ext'),
  'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n');
openssl('x509', '-req', '-in', at('server.csr'), '-CA', at('gateway-ca.pem'), '-CAkey', at('ca.key'),
  '-CAcreateserial', '-days', '2', '-extfile', at('server.ext'), '-out', at('server.pem'));

// keepalive_requests: a GOAWAY after every 100 requests of a connection.
fs.writeFileSync(at('nginx.conf'), `
daemon off;
pid nginx.pid;
worker_processes 1;
events { worker_connections 256; }
http {
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 100;
  log_format requests escape=json '{"protocol":"$server_protocol","method":"$request_method",'
    '"uri":"$uri","status":$status,"connection":"$connection","length":"$http_content_length",'
    '"type":"$http_apns_push_type","topic":"$http_apns_topic","priority":"$http_apns_priority",'
    '"expiration":"$http_apns_expiration","id":"$http_apns_id"}';
  access_log access.log requests;
  server {
    listen 127.0.0.1:${port} ssl http2;
    ssl_certificate server.pem;
    ssl_certificate_key server.key;
    location /3/device/ {
      add_header apns-id $http_apns_id;
      return 200;
    }
    location /v1/projects/ {
      default_type application/json;
      return 200 '{"name":"projects/interop/messages/$request_id"}';
    }
  }
}
`);

// The simulator's configuration with nginx in place of both providers; access tokens still come
// from the simulator. Relative paths in it are relative to the simulator's folder.
let table = '';
const config = fs.readFileSync(path.join(simulator, 'ringpush.toml'), 'utf8').split('\n')
  .map((line) => {
    table = line.match(/^\[(.+)\]\s*$/)?.[1] ?? table;
    const key = line.match(/^(\w+)\s*=/)?.[1];
    if (/^(apns|fcm)$/.test(table) && /(^|_)url$/.test(key ?? '')) return `${key} = "https://localhost:${port}"`;
    if (/^(apns|fcm)$/.test(table) && key === 'ca_file') return `ca_file = "${at('gateway-ca.pem')}"`;
    if (table === 'admin' && key === 'listen') return 'listen = "127.0.0.1:0"';
    const file = line.match(/^(\w*_file|dir)\s*=\s*"([^"/][^"]*)"/);
    return file ? `${file[1]} = "${path.resolve(simulator, file[2])}"` : line;
  });
fs.writeFileSync(at('ringpush.toml'), config.join('\n'));
